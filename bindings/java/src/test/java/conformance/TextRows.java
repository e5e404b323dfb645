package conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import finermoe.Chat;
import finermoe.Decoder;
import finermoe.Encoding;
import finermoe.Message;
import finermoe.TextFlag;
import finermoe.Token;
import finermoe.Tokenizer;
import finermoe.TokenizerInfo;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

/** Kinds of rows: text. */
final class TextRows {
  private TextRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("encode", TextRows::encode);
    behaviours.put("encode_repeated", TextRows::encodeRepeated);
    behaviours.put("decode", row -> Map.of("text", tokenizer(row).decode(row.ids("ids"), row.flags())));
    behaviours.put("stream_decode", TextRows::streamDecode);
    behaviours.put("token", TextRows::token);
    behaviours.put("find", TextRows::find);
    behaviours.put("chat_prompt", TextRows::chatPrompt);
    behaviours.put("chat_edit", TextRows::chatEdit);
    behaviours.put("tokenizer_info", TextRows::tokenizerInfo);
    behaviours.put("tokenizer_memory", TextRows::tokenizerMemory);
  }

  private static Tokenizer tokenizer(Row row) {
    return row.keep(Tokenizer.open(row.path()));
  }

  private static Map<String, Object> encode(Row row) {
    final Tokenizer tokenizer = tokenizer(row);
    final Encoding encoding = tokenizer.encodeWithOffsets(row.text("text"), row.flags());
    final List<long[]> offsets = new ArrayList<>();
    for (int i = 0; i < encoding.ids().length; i++) {
      offsets.add(Arrays.copyOfRange(encoding.offsets(), 2 * i, 2 * i + 2));
    }
    return Map.of("ids", encoding.ids(), "offsets", offsets, "count", tokenizer.count(row.text("text"), row.flags()));
  }

  private static Map<String, Object> encodeRepeated(Row row) {
    final String text = row.text("text").repeat(row.number("times"));
    final Tokenizer tokenizer = tokenizer(row);
    final int[] ids = tokenizer.encode(text);
    if (!tokenizer.decode(ids, TextFlag.SHOW_SPECIAL).equals(text)) {
      throw new IllegalArgumentException("decoding gives another text");
    }
    return Map.of("count", ids.length, "first", Arrays.copyOf(ids, 8),
        "last", Arrays.copyOfRange(ids, ids.length - 8, ids.length));
  }

  private static Map<String, Object> streamDecode(Row row) {
    final List<String> pieces = new ArrayList<>();
    try (Decoder decoder = tokenizer(row).decoder(row.flags())) {
      for (int id : row.ids("ids")) pieces.add(decoder.push(id));
      pieces.add(decoder.flush());
    }
    return Map.of("pieces", pieces);
  }

  private static Map<String, Object> token(Row row) {
    final Tokenizer tokenizer = tokenizer(row);
    final List<List<String>> tokens = new ArrayList<>();
    for (int id : row.ids("ids")) {
      final Token token = tokenizer.token(id);
      tokens.add(List.of(HexFormat.of().formatHex(token.bytes()), Row.lower(token.kind())));
    }
    return Map.of("tokens", tokens);
  }

  private static Map<String, Object> find(Row row) {
    final Tokenizer tokenizer = tokenizer(row);
    final List<Integer> ids = new ArrayList<>();
    for (JsonElement digits : row.json.getAsJsonArray("bytes")) {
      ids.add(tokenizer.find(HexFormat.of().parseHex(digits.getAsString())).orElse(-1));
    }
    return Map.of("ids", ids);
  }

  private static Map<String, Object> chatPrompt(Row row) {
    final Tokenizer tokenizer = tokenizer(row);
    try (Chat chat = Row.chat(row.json.getAsJsonArray("messages"))) {
      return Map.of("ids", chat.encode(tokenizer, row.flags()), "text", chat.render(tokenizer, row.flags()));
    }
  }

  private static Map<String, Object> chatEdit(Row row) {
    try (Chat chat = Chat.of()) {
      for (JsonElement element : row.json.getAsJsonArray("edits")) {
        final JsonArray edit = element.getAsJsonArray();
        switch (edit.get(0).getAsString()) {
          case "add" -> chat.add(new Message(edit.get(1).getAsString(), edit.get(2).getAsString()));
          case "set" -> chat.set(edit.get(1).getAsLong(), edit.get(2).getAsString());
          case "truncate" -> chat.truncate(edit.get(1).getAsLong());
          case "remove" -> chat.remove(edit.get(1).getAsLong(), edit.get(2).getAsLong());
          default -> throw new IllegalArgumentException("no such edit: " + edit);
        }
      }
      return Map.of("messages",
          chat.messages().stream().map(message -> List.of(message.role(), message.text())).toList());
    }
  }

  private static Map<String, Object> tokenizerInfo(Row row) {
    final TokenizerInfo info = tokenizer(row).info();
    return Map.of("bos_id", info.bosId(), "eos_id", info.eosId(), "pad_id", info.padId(),
        "vocab_size", info.vocabSize(), "n_added", info.nAdded(), "has_chat", info.hasChat(),
        "end_of_turn_id", info.endOfTurnId());
  }

  private static Map<String, Object> tokenizerMemory(Row row) throws Exception {
    final String json = Files.readString(row.path().resolve("tokenizer.json"));
    final String config = Files.readString(row.path().resolve("tokenizer_config.json"));
    try (Tokenizer tokenizer = Tokenizer.parse(json, config)) {
      return Map.of("ids", tokenizer.encode(row.text("text"), row.flags()));
    }
  }
}
