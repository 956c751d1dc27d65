// Computes anew what tests/data/twitter_text.json expects of its texts, with twitter-text itself.
//
// usage, in a folder of its own: npm install twitter-text@3.1.0
//                                NODE_PATH=node_modules node .../scripts/twitter_text_cases.js .../tests/data/twitter_text.json
const fs = require("fs");
const twitter = require("twitter-text");

const path = process.argv[2];
const file = JSON.parse(fs.readFileSync(path, "utf8"));

const computed = (text) => {
  const place = (unit) => [...text.slice(0, unit)].length; // code points, not units of UTF-16
  const spans = (found, word) => found.map((each) => [place(each.indices[0]), place(each.indices[1]), each[word]]);
  const found = twitter.extractEntitiesWithIndices(text);
  return [
    text,
    twitter.parseTweet(text).weightedLength,
    spans(found.filter((each) => each.screenName && !each.listSlug), "screenName"),
    spans(found.filter((each) => each.hashtag), "hashtag"),
    spans(found.filter((each) => each.cashtag), "cashtag"),
    spans(found.filter((each) => each.url), "url"),
  ];
};

const section = (name) => `"${name}": [\n${file[name].map(([text]) => JSON.stringify(computed(text))).join(",\n")}\n]`;
fs.writeFileSync(path, `{"about": ${JSON.stringify(file.about)},\n${section("same")},\n${section("different")}}\n`);
