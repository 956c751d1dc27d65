import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.core.WhitespaceTokenizer;
import org.apache.lucene.analysis.miscellaneous.ASCIIFoldingFilter;
import org.apache.lucene.analysis.miscellaneous.WordDelimiterGraphFilter;
import org.apache.lucene.analysis.miscellaneous.WordDelimiterIterator;
import org.apache.lucene.analysis.ngram.EdgeNGramTokenFilter;
import org.apache.lucene.analysis.pattern.PatternCaptureGroupTokenFilter;
import org.apache.lucene.analysis.pattern.PatternTokenizer;
import org.elasticsearch.cluster.metadata.IndexNameExpressionResolver;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.settings.ClusterSettings;
import org.elasticsearch.common.settings.IndexScopedSettings;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.settings.SettingsFilter;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.index.analysis.TokenFilterFactory;
import org.elasticsearch.index.analysis.TokenizerFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.AnalysisPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestHandler;

/**
 * What the distribution of Elasticsearch has and Maven Central has not, as far as it is of use here: under the same
 * names and with the same settings, so that an index that is made here is made by a stock server too.
 */
public final class Parts extends Plugin implements ActionPlugin, AnalysisPlugin {
    @Override
    public Collection<RestHandler> getRestHandlers(
            Settings settings,
            NamedWriteableRegistry writeables,
            RestController controller,
            ClusterSettings clusterSettings,
            IndexScopedSettings indexSettings,
            SettingsFilter filter,
            IndexNameExpressionResolver names,
            Supplier<DiscoveryNodes> nodes,
            Predicate<NodeFeature> features) {
        return List.of(new Greeting());
    }

    @Override
    public Map<String, AnalysisProvider<TokenizerFactory>> getTokenizers() {
        return Map.of(
                "whitespace", (index, environment, name, settings) ->
                        TokenizerFactory.newFactory(name, WhitespaceTokenizer::new),
                "pattern", (index, environment, name, settings) -> {
                    Pattern pattern = Pattern.compile(settings.get("pattern", "\\W+"));
                    int group = settings.getAsInt("group", -1);
                    return TokenizerFactory.newFactory(name, () -> new PatternTokenizer(pattern, group));
                });
    }

    @Override
    public Map<String, AnalysisProvider<TokenFilterFactory>> getTokenFilters() {
        return Map.of(
                "asciifolding", filter(true, settings -> {
                    boolean original = settings.getAsBoolean("preserve_original", false);
                    return tokens -> new ASCIIFoldingFilter(tokens, original);
                }),
                "edge_ngram", filter(false, settings -> {
                    int shortest = settings.getAsInt("min_gram", 1);
                    int longest = settings.getAsInt("max_gram", 2);
                    boolean original = settings.getAsBoolean("preserve_original", false);
                    return tokens -> new EdgeNGramTokenFilter(tokens, shortest, longest, original);
                }),
                "pattern_capture", filter(false, settings -> {
                    Pattern[] patterns = settings.getAsList("patterns").stream().map(Pattern::compile).toArray(Pattern[]::new);
                    boolean original = settings.getAsBoolean("preserve_original", true);
                    return tokens -> new PatternCaptureGroupTokenFilter(tokens, original, patterns);
                }),
                "word_delimiter_graph", filter(false, settings -> {
                    byte[] kinds = kinds(settings);
                    int flags = Delimiting.flags(settings);
                    return tokens -> new WordDelimiterGraphFilter(tokens, false, kinds, flags, null);
                }));
    }

    /** @param normalizes whether it also applies to words that are not analysed, such as those of a prefix query */
    private static AnalysisProvider<TokenFilterFactory> filter(
            boolean normalizes, Function<Settings, Function<TokenStream, TokenStream>> made) {
        return (index, environment, name, settings) -> {
            Function<TokenStream, TokenStream> wrap = made.apply(settings);
            return new TokenFilterFactory() {
                @Override
                public String name() {
                    return name;
                }

                @Override
                public TokenStream create(TokenStream tokens) {
                    return wrap.apply(tokens);
                }

                @Override
                public TokenStream normalize(TokenStream tokens) {
                    return normalizes ? wrap.apply(tokens) : tokens;
                }
            };
        };
    }

    /** Setting `type_table`: rules such as `# => ALPHA`, for characters below 256. */
    private static byte[] kinds(Settings settings) {
        byte[] kinds = Arrays.copyOf(WordDelimiterIterator.DEFAULT_WORD_DELIM_TABLE, 256);
        for (String rule : settings.getAsList("type_table")) {
            int arrow = rule.indexOf("=>");
            String characters = rule.substring(0, arrow).strip();
            char character = characters.charAt(characters.length() - 1); // after a backslash, if there is one
            kinds[character] = Kind.valueOf(rule.substring(arrow + 2).strip()).code;
        }
        return kinds;
    }

    /** What a character is to `word_delimiter_graph`, with Lucene's numbers. */
    private enum Kind {
        LOWER(0x01),
        UPPER(0x02),
        ALPHA(0x03),
        DIGIT(0x04),
        ALPHANUM(0x07),
        SUBWORD_DELIM(0x08);

        private final byte code;

        Kind(int code) {
            this.code = (byte) code;
        }
    }

    /** Switches of `word_delimiter_graph`, with their defaults. */
    private enum Delimiting {
        GENERATE_WORD_PARTS(WordDelimiterGraphFilter.GENERATE_WORD_PARTS, true),
        GENERATE_NUMBER_PARTS(WordDelimiterGraphFilter.GENERATE_NUMBER_PARTS, true),
        CATENATE_WORDS(WordDelimiterGraphFilter.CATENATE_WORDS, false),
        CATENATE_NUMBERS(WordDelimiterGraphFilter.CATENATE_NUMBERS, false),
        CATENATE_ALL(WordDelimiterGraphFilter.CATENATE_ALL, false),
        SPLIT_ON_CASE_CHANGE(WordDelimiterGraphFilter.SPLIT_ON_CASE_CHANGE, true),
        SPLIT_ON_NUMERICS(WordDelimiterGraphFilter.SPLIT_ON_NUMERICS, true),
        PRESERVE_ORIGINAL(WordDelimiterGraphFilter.PRESERVE_ORIGINAL, false),
        STEM_ENGLISH_POSSESSIVE(WordDelimiterGraphFilter.STEM_ENGLISH_POSSESSIVE, true);

        private final int flag;
        private final boolean usually;

        Delimiting(int flag, boolean usually) {
            this.flag = flag;
            this.usually = usually;
        }

        static int flags(Settings settings) {
            int flags = 0;
            for (Delimiting one : values()) {
                flags |= settings.getAsBoolean(one.name().toLowerCase(), one.usually) ? one.flag : 0;
            }
            return flags;
        }
    }
}
