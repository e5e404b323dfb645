// Kinds of rows: text.
#include "runner.h"

namespace {

uint32_t flags_of(const Json& row) {
  uint32_t flags = FINERMOE_TEXT_DEFAULT;
  const auto set = [&](const char* name, uint32_t flag) {
    if (row.value(name, false)) flags |= flag;
  };
  set("parse_special", FINERMOE_TEXT_PARSE_SPECIAL);
  set("show_special", FINERMOE_TEXT_SHOW_SPECIAL);
  set("no_generation_prompt", FINERMOE_TEXT_NO_GENERATION_PROMPT);
  set("no_special_tokens", FINERMOE_TEXT_NO_SPECIAL_TOKENS);
  set("continue_last", FINERMOE_TEXT_CONTINUE_LAST);
  return flags;
}

// Of the row's model or shape, without its weights.
TokenizerHandle tokenizer_of_row(const Json& row) {
  return create<TokenizerHandle>(
      [&](auto** out, auto** e) { return finermoe_tokenizer_open(model_path(row).c_str(), out, e); });
}
Ids encode(const finermoe_tokenizer* tokenizer, const std::string& text, uint32_t flags,
           std::vector<uint64_t>* offsets = nullptr) {
  return read<Ids>([&](int32_t* ids, size_t capacity, size_t* needed, finermoe_error** e) {
    if (offsets != nullptr) offsets->resize(2 * capacity);
    return finermoe_tokenizer_encode(tokenizer, text.data(), text.size(), flags, ids,
                                     offsets != nullptr && capacity > 0 ? offsets->data() : nullptr, capacity, needed,
                                     e);
  });
}
std::string decode(const finermoe_tokenizer* tokenizer, const Ids& ids, uint32_t flags) {
  return read<std::string>([&](char* text, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_tokenizer_decode(tokenizer, ids.data(), ids.size(), flags, text, capacity, needed, e);
  });
}
size_t count(const finermoe_tokenizer* tokenizer, const std::string& text, uint32_t flags) {
  size_t n = 0;
  call([&](auto** e) { return finermoe_tokenizer_count(tokenizer, text.data(), text.size(), flags, &n, e); });
  return n;
}

Json encode_row(const Json& row) {
  const auto tokenizer = tokenizer_of_row(row);
  const std::string text = text_of(row, "text");
  std::vector<uint64_t> offsets;
  const Ids ids = encode(tokenizer.get(), text, flags_of(row), &offsets);
  Json pairs = Json::array();
  for (size_t i = 0; i < ids.size(); i++) pairs.push_back({offsets[2 * i], offsets[2 * i + 1]});
  return {{"ids", ids}, {"offsets", pairs}, {"count", count(tokenizer.get(), text, flags_of(row))}};
}

Json encode_repeated(const Json& row) {
  const auto tokenizer = tokenizer_of_row(row);
  const std::string piece = text_of(row, "text");
  std::string text;
  for (size_t i = 0; i < row["times"]; i++) text += piece;
  const Ids ids = encode(tokenizer.get(), text, flags_of(row));
  if (decode(tokenizer.get(), ids, FINERMOE_TEXT_SHOW_SPECIAL) != text)
    throw Failed{0, "decoding gives another text", "", ""};
  return {{"count", ids.size()}, {"first", Ids(ids.begin(), ids.begin() + 8)}, {"last", Ids(ids.end() - 8, ids.end())}};
}

Json decode_row(const Json& row) { return {{"text", decode(tokenizer_of_row(row).get(), row["ids"], flags_of(row))}}; }

Json stream_decode(const Json& row) {
  const auto tokenizer = tokenizer_of_row(row);
  const auto decoder = create<DecoderHandle>(
      [&](auto** out, auto** e) { return finermoe_decoder_create(tokenizer.get(), flags_of(row), out, e); });
  Json pieces = Json::array();
  for (const int32_t id : row["ids"]) {
    pieces.push_back(read<std::string>([&](char* text, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_decoder_push(decoder.get(), id, text, capacity, needed, e);
    }));
  }
  pieces.push_back(read<std::string>([&](char* text, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_decoder_flush(decoder.get(), text, capacity, needed, e);
  }));
  return {{"pieces", pieces}};
}

Json token(const Json& row) {
  const auto tokenizer = tokenizer_of_row(row);
  Json tokens = Json::array();
  for (const int32_t id : row["ids"]) {
    int32_t kind = 0;
    const auto bytes = read<std::string>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_tokenizer_token(tokenizer.get(), id, out, capacity, needed, &kind, e);
    });
    if (bytes.empty())
      call([&](auto** e) { return finermoe_tokenizer_token(tokenizer.get(), id, nullptr, 0, nullptr, &kind, e); });
    static const char* const names[] = {"normal", "added", "special", "unused"};
    tokens.push_back({to_hexadecimal(bytes), names[kind]});
  }
  return {{"tokens", tokens}};
}

Json find(const Json& row) {
  const auto tokenizer = tokenizer_of_row(row);
  Json ids = Json::array();
  for (const std::string digits : row["bytes"]) {
    const std::string bytes = from_hexadecimal(digits);
    int32_t id = 0;
    call([&](auto** e) { return finermoe_tokenizer_find(tokenizer.get(), bytes.data(), bytes.size(), &id, e); });
    ids.push_back(id);
  }
  return {{"ids", ids}};
}

Json chat_prompt(const Json& row) {
  const auto tokenizer = tokenizer_of_row(row);
  const auto chat = chat_of(row["messages"]);
  return {{"ids", read<Ids>([&](int32_t* ids, size_t capacity, size_t* needed, finermoe_error** e) {
             return finermoe_chat_encode(chat.get(), tokenizer.get(), flags_of(row), ids, capacity, needed, e);
           })},
          {"text", read<std::string>([&](char* text, size_t capacity, size_t* needed, finermoe_error** e) {
             return finermoe_chat_render(chat.get(), tokenizer.get(), flags_of(row), text, capacity, needed, e);
           })}};
}

Json chat_edit(const Json& row) {
  const auto chat = chat_of(Json::array());
  for (const Json& edit : row["edits"]) {
    const std::string what = edit[0];
    call([&](auto** e) -> int32_t {
      if (what == "truncate") return finermoe_chat_truncate(chat.get(), edit[1], e);
      if (what == "remove") return finermoe_chat_remove(chat.get(), edit[1], edit[2], e);
      const std::string text = edit[2];
      if (what == "set") return finermoe_chat_set(chat.get(), edit[1], text.data(), text.size(), e);
      return finermoe_chat_add(chat.get(), edit[1].get<std::string>().c_str(), text.data(), text.size(), e);
    });
  }
  Json messages = Json::array();
  for (size_t i = 0; i < finermoe_chat_count(chat.get()); i++) {
    const auto message =
        get<finermoe_chat_message>([&](auto* out, auto** e) { return finermoe_chat_get(chat.get(), i, out, e); });
    messages.push_back({message.role, std::string(message.text, message.text_length)});
  }
  return {{"messages", messages}};
}

Json info_of(const finermoe_tokenizer* tokenizer) {
  const auto info =
      get<finermoe_tokenizer_info>([&](auto* out, auto** e) { return finermoe_tokenizer_get_info(tokenizer, out, e); });
  return {{"bos_id", info.bos_id},
          {"eos_id", info.eos_id},
          {"pad_id", info.pad_id},
          {"vocab_size", info.vocab_size},
          {"n_added", info.n_added},
          {"has_chat", info.has_chat != 0},
          {"end_of_turn_id", info.end_of_turn_id}};
}
Json tokenizer_info(const Json& row) { return info_of(tokenizer_of_row(row).get()); }

Json tokenizer_memory(const Json& row) {
  const std::string json = file_bytes(model_path(row) / "tokenizer.json");
  const std::string config = file_bytes(model_path(row) / "tokenizer_config.json");
  const auto tokenizer = create<TokenizerHandle>([&](auto** out, auto** e) {
    return finermoe_tokenizer_open_memory(json.data(), json.size(), config.data(), config.size(), out, e);
  });
  return {{"ids", encode(tokenizer.get(), text_of(row, "text"), flags_of(row))}};
}

}  // namespace

void add_text(Behaviours& behaviours) {
  behaviours.insert({{"encode", encode_row},
                     {"encode_repeated", encode_repeated},
                     {"decode", decode_row},
                     {"stream_decode", stream_decode},
                     {"token", token},
                     {"find", find},
                     {"chat_prompt", chat_prompt},
                     {"chat_edit", chat_edit},
                     {"tokenizer_info", tokenizer_info},
                     {"tokenizer_memory", tokenizer_memory}});
}
