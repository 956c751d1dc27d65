import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.plugins.PluginsUtils;

/**
 * One node of Elasticsearch, until SIGTERM: what the distribution's launcher does, which Maven Central has not.
 *
 * <p>Arguments: the folder with modules and plugins, and the folder with elasticsearch.yml.
 */
public final class Main {
    private static final long CLOSE_S = 10;

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Environment environment = environment(Path.of(arguments[0]), Path.of(arguments[1]));
        var modules = PluginsUtils.getModuleBundles(environment.modulesDir());
        var plugins = PluginsUtils.getPluginBundles(environment.pluginsDir());
        Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules, plugins, Map.of(), false));
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node, closed)));
        node.start();
        closed.await();
    }

    private static Environment environment(Path home, Path configuration) throws Exception {
        LogConfigurator.registerErrorListener();
        LogConfigurator.configureESLogging();
        Settings given = Settings.builder().put(Environment.PATH_HOME_SETTING.getKey(), home).build();
        Environment made = InternalSettingsPreparer.prepareEnvironment(given, Map.of(), configuration, () -> "node");
        LogConfigurator.setNodeName(Node.NODE_NAME_SETTING.get(made.settings()));
        LogConfigurator.configure(made, true);
        return made;
    }

    private static void close(Node node, CountDownLatch closed) {
        try {
            node.close();
            node.awaitClose(CLOSE_S, TimeUnit.SECONDS);
        } catch (IOException | InterruptedException error) {
            error.printStackTrace();
        }
        closed.countDown();
    }
}
