// Section 6 of finermoe.h: tokenizer, decoder, chat.
#include "api/handles.h"
#include "format/checkpoint.h"

using namespace finermoe;
using namespace finermoe::api;

int32_t finermoe_tokenizer_open(const char* path, finermoe_tokenizer** tokenizer, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(path, "path"));
    FM_TRY(require(tokenizer, "tokenizer"));
    const auto read = [&](const std::string& name) { return read_model_text(path, name); };
    FM_ASSIGN(auto parsed, Tokenizer::open(path, read));
    return give(tokenizer, std::move(parsed));
  });
}

int32_t finermoe_tokenizer_open_memory(const char* json, size_t json_length, const char* config_json,
                                       size_t config_json_length, finermoe_tokenizer** tokenizer,
                                       finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(json, "json"));
    FM_TRY(require_array(config_json, config_json_length, "config_json"));
    FM_TRY(require(tokenizer, "tokenizer"));
    TokenizerTexts texts;
    texts.tokenizer_json = std::optional(std::string(text_of(json, json_length)));
    if (config_json_length != 0) texts.config = std::optional(std::string(text_of(config_json, config_json_length)));
    FM_ASSIGN(auto parsed, Tokenizer::parse(texts));
    FM_TRY(parsed->config_status());
    return give(tokenizer, std::move(parsed));
  });
}

int32_t finermoe_tokenizer_open_model(const finermoe_model* model, finermoe_tokenizer** tokenizer,
                                      finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(require(tokenizer, "tokenizer"));
    const auto loaded = model->model;
    FM_TRY(loaded->runtime()->check_process());
    FM_ASSIGN(auto parsed, loaded->tokenizer());
    return give(tokenizer, std::move(parsed));
  });
}
void finermoe_tokenizer_free(finermoe_tokenizer* tokenizer) { delete tokenizer; }

int32_t finermoe_tokenizer_get_info(const finermoe_tokenizer* tokenizer, finermoe_tokenizer_info* info,
                                    finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(tokenizer, "tokenizer"));
    const auto t = tokenizer->tokenizer;
    finermoe_tokenizer_info out{};
    out.bos_id = t->bos_id();
    out.eos_id = t->eos_id();
    out.pad_id = t->pad_id();
    out.vocab_size = t->vocab_size();
    out.n_added = t->n_added();
    out.has_chat = t->chat_status().ok();
    out.end_of_turn_id = t->end_of_turn_id();
    return put_struct(out, info);
  });
}

int32_t finermoe_tokenizer_encode(const finermoe_tokenizer* tokenizer, const char* text, size_t text_length,
                                  uint32_t flags, int32_t* ids, uint64_t* offsets, size_t capacity, size_t* needed,
                                  finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(tokenizer, "tokenizer"));
    FM_TRY(require_array(text, text_length, "text"));
    FM_TRY(require_flags(flags, encode_flags));
    const auto t = tokenizer->tokenizer;
    std::vector<int32_t> found;
    std::vector<ByteRange> ranges;
    FM_TRY(t->encode(text_of(text, text_length), encode_options(flags), [&](int32_t id, ByteRange range) {
      found.push_back(id);
      if (offsets != nullptr) ranges.push_back(range);
    }));
    FM_TRY(put<int32_t>(found, ids, capacity, needed));
    for (size_t i = 0; i < ranges.size(); i++) {
      offsets[2 * i] = ranges[i].begin;
      offsets[2 * i + 1] = ranges[i].end;
    }
    return {};
  });
}

int32_t finermoe_tokenizer_count(const finermoe_tokenizer* tokenizer, const char* text, size_t text_length,
                                 uint32_t flags, size_t* count, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(tokenizer, "tokenizer"));
    FM_TRY(require_array(text, text_length, "text"));
    FM_TRY(require_flags(flags, encode_flags));
    FM_TRY(require(count, "count"));
    const auto t = tokenizer->tokenizer;
    size_t n = 0;
    FM_TRY(t->encode(text_of(text, text_length), encode_options(flags), [&](int32_t, ByteRange) { n++; }));
    *count = n;
    return {};
  });
}

int32_t finermoe_tokenizer_decode(const finermoe_tokenizer* tokenizer, const int32_t* ids, size_t n_ids, uint32_t flags,
                                  char* text, size_t capacity, size_t* needed, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(tokenizer, "tokenizer"));
    const auto t = tokenizer->tokenizer;
    FM_TRY(require_array(ids, n_ids, "ids"));
    FM_TRY(require_flags(flags, FINERMOE_TEXT_SHOW_SPECIAL));
    return put_text(decode(*t, {ids, n_ids}, flags & FINERMOE_TEXT_SHOW_SPECIAL), text, capacity, needed);
  });
}

int32_t finermoe_tokenizer_token(const finermoe_tokenizer* tokenizer, int32_t id, char* bytes, size_t capacity,
                                 size_t* needed, int32_t* kind, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(tokenizer, "tokenizer"));
    const auto t = tokenizer->tokenizer;
    FM_TRY(put_text(t->bytes(id), bytes, capacity, needed));
    if (kind != nullptr) *kind = static_cast<int32_t>(t->kind(id));
    return {};
  });
}

int32_t finermoe_tokenizer_find(const finermoe_tokenizer* tokenizer, const char* bytes, size_t length, int32_t* id,
                                finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(tokenizer, "tokenizer"));
    FM_TRY(require_array(bytes, length, "bytes"));
    FM_TRY(require(id, "id"));
    *id = tokenizer->tokenizer->find(text_of(bytes, length));
    return {};
  });
}

int32_t finermoe_decoder_create(const finermoe_tokenizer* tokenizer, uint32_t flags, finermoe_decoder** decoder,
                                finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(tokenizer, "tokenizer"));
    FM_TRY(require_flags(flags, FINERMOE_TEXT_SHOW_SPECIAL));
    return give(decoder, tokenizer->tokenizer, (flags & FINERMOE_TEXT_SHOW_SPECIAL) != 0, Utf8Stream());
  });
}
void finermoe_decoder_free(finermoe_decoder* decoder) { delete decoder; }

int32_t finermoe_decoder_push(finermoe_decoder* decoder, int32_t id, char* text, size_t capacity, size_t* needed,
                              finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(decoder, "decoder"));
    const bool hidden = !decoder->show_special && decoder->tokenizer->kind(id) == TokenKind::special;
    Utf8Stream stream = decoder->stream;  // a buffer that is too small consumes nothing
    std::string complete;
    if (!hidden) stream.push(decoder->tokenizer->bytes(id), complete);
    FM_TRY(put_text(complete, text, capacity, needed));
    decoder->stream = stream;
    return {};
  });
}

int32_t finermoe_decoder_flush(finermoe_decoder* decoder, char* text, size_t capacity, size_t* needed,
                               finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(decoder, "decoder"));
    Utf8Stream stream = decoder->stream;
    std::string complete;
    stream.flush(complete);
    FM_TRY(put_text(complete, text, capacity, needed));
    decoder->stream = stream;
    return {};
  });
}

int32_t finermoe_chat_create(finermoe_chat** chat, finermoe_error** error) {
  return guarded(error, [&] { return give(chat); });
}
void finermoe_chat_free(finermoe_chat* chat) { delete chat; }

int32_t finermoe_chat_add(finermoe_chat* chat, const char* role, const char* text, size_t text_length,
                          finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(chat, "chat"));
    FM_TRY(require(role, "role"));
    FM_TRY(require_array(text, text_length, "text"));
    const std::string_view name = role;
    if (name != "system" && name != "user" && name != "assistant") {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("role \"", name, "\" is not known"),
                    "\"system\", \"user\" or \"assistant\"", std::string(name));
    }
    chat->messages.push_back({std::string(name), whole_utf8(text_of(text, text_length))});
    return {};
  });
}

size_t finermoe_chat_count(const finermoe_chat* chat) { return chat ? chat->messages.size() : 0; }

int32_t finermoe_chat_get(const finermoe_chat* chat, size_t index, finermoe_chat_message* message,
                          finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(chat, "chat"));
    FM_TRY(require_index(index, chat->messages.size(), "message"));
    finermoe_chat_message out{};
    out.role = chat->messages[index].role.c_str();
    out.text = chat->messages[index].text.c_str();
    out.text_length = chat->messages[index].text.size();
    return put_struct(out, message);
  });
}

int32_t finermoe_chat_set(finermoe_chat* chat, size_t index, const char* text, size_t text_length,
                          finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(chat, "chat"));
    FM_TRY(require_index(index, chat->messages.size(), "message"));
    FM_TRY(require_array(text, text_length, "text"));
    chat->messages[index].text = whole_utf8(text_of(text, text_length));
    return {};
  });
}

int32_t finermoe_chat_truncate(finermoe_chat* chat, size_t n, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(chat, "chat"));
    const size_t count = chat->messages.size();
    if (n > count) {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                    format_text("cannot truncate to ", n, " messages: the chat has ", count),
                    format_text("at most ", count), format_text(n));
    }
    chat->messages.resize(n);
    return {};
  });
}

int32_t finermoe_chat_remove(finermoe_chat* chat, size_t begin, size_t end, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(chat, "chat"));
    auto& messages = chat->messages;
    if (begin > end || end > messages.size()) {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                    format_text("cannot forget the messages [", begin, ", ", end, "): the chat has ", messages.size()),
                    format_text("begin <= end <= ", messages.size()), format_text(begin, " and ", end));
    }
    messages.erase(messages.begin() + static_cast<ptrdiff_t>(begin), messages.begin() + static_cast<ptrdiff_t>(end));
    return {};
  });
}

int32_t finermoe_chat_encode(const finermoe_chat* chat, const finermoe_tokenizer* tokenizer, uint32_t flags,
                             int32_t* ids, size_t capacity, size_t* needed, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(chat, "chat"));
    FM_TRY(require(tokenizer, "tokenizer"));
    FM_TRY(require_flags(flags, chat_flags));
    const auto t = tokenizer->tokenizer;
    FM_ASSIGN(const auto found, t->encode_chat(chat->messages, chat_end(flags)));
    return put<int32_t>(found, ids, capacity, needed);
  });
}

int32_t finermoe_chat_render(const finermoe_chat* chat, const finermoe_tokenizer* tokenizer, uint32_t flags, char* text,
                             size_t capacity, size_t* needed, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(chat, "chat"));
    FM_TRY(require(tokenizer, "tokenizer"));
    FM_TRY(require_flags(flags, chat_flags));
    const auto t = tokenizer->tokenizer;
    FM_ASSIGN(const auto rendered, t->render_chat(chat->messages, chat_end(flags)));
    return put_text(rendered, text, capacity, needed);
  });
}
