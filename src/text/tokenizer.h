// Byte-level BPE from tokenizer.json, or vocab.json and merges.txt, with the same ids as Hugging Face.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"

namespace finermoe {

enum class TokenKind : int32_t {
  normal = FINERMOE_TOKEN_NORMAL,
  added = FINERMOE_TOKEN_ADDED,
  special = FINERMOE_TOKEN_SPECIAL,
  unused = FINERMOE_TOKEN_UNUSED
};

struct ByteRange {
  uint64_t begin = 0, end = 0;  // in the original text, before normalization
};

struct ChatMessage {
  std::string role, text;
};

// What follows the last message of a rendered chat.
enum class ChatEnd { closed, generation_prompt, continue_last };

struct EncodeOptions {
  bool parse_special = false;  // special tokens in the text become their ids
  bool add_special = true;     // the tokens that the tokenizer adds around a text, if any: BOS, EOS
};

// The files that a tokenizer is read from: each nullopt if absent, or the error of reading it, which is reported only
// if the text is needed.
struct TokenizerTexts {
  using Text = Result<std::optional<std::string>>;
  Text tokenizer_json = std::optional<std::string>();
  Text vocab_json = std::optional<std::string>();  // this and the next two: in place of tokenizer.json
  Text merges = std::optional<std::string>();
  Text added_tokens = std::optional<std::string>();
  Text config = std::optional<std::string>();  // tokenizer_config.json
  Text special_tokens_map = std::optional<std::string>();
  Text model_config = std::optional<std::string>();   // config.json: its bos_token_id, if no BOS is named elsewhere
  Text chat_template = std::optional<std::string>();  // chat_template.jinja, before that of tokenizer_config.json

  using Read = FunctionRef<Text(const std::string& file_name)>;
  static TokenizerTexts read(Read read_text);
};

// Immutable; any number of threads may use it at once.
class Tokenizer {
 public:
  // `model` names the source of the texts in messages.
  static Result<std::shared_ptr<const Tokenizer>> parse(const TokenizerTexts& texts,
                                                        std::string_view model = "the model");
  static Result<std::shared_ptr<const Tokenizer>> open(std::string_view model, TokenizerTexts::Read read_text) {
    return parse(TokenizerTexts::read(read_text), model);
  }
  virtual ~Tokenizer() = default;

  // Calls `emit` for each token in order; the range of a token that is not part of the text is 0, 0.
  virtual Status encode(std::string_view text, EncodeOptions options,
                        FunctionRef<void(int32_t id, ByteRange range)> emit) const = 0;
  // The bytes that a token stands for in text (added tokens: their content); empty for an id without a token.
  virtual std::string_view bytes(int32_t id) const = 0;
  virtual TokenKind kind(int32_t id) const = 0;
  virtual int32_t find(std::string_view bytes) const = 0;  // -1: none
  virtual size_t vocab_size() const = 0;                   // largest id with a token, plus one
  virtual size_t n_added() const = 0;
  // FINERMOE_OK, or why tokenizer_config.json cannot be used: the next three are -1 then.
  virtual Status config_status() const = 0;
  virtual int32_t bos_id() const = 0;  // -1: none, like the next two
  virtual int32_t eos_id() const = 0;
  virtual int32_t pad_id() const = 0;

  // FINERMOE_OK, or FINERMOE_ERROR_CHAT_TEMPLATE saying why chat does not work here.
  virtual Status chat_status() const = 0;
  virtual int32_t end_of_turn_id() const = 0;  // of the chat template; -1 where chat does not work
  virtual Result<std::string> render_chat(std::span<const ChatMessage> messages, ChatEnd end) const = 0;
  // The rendered prompt's ids: only the template's own special tokens become special ids.
  virtual Result<std::vector<int32_t>> encode_chat(std::span<const ChatMessage> messages, ChatEnd end) const = 0;
};

// Bytes in, whole characters out. Invalid bytes become U+FFFD, one per maximal subpart, as Python's errors="replace".
class Utf8Stream {
 public:
  void push(std::string_view bytes, std::string& out);  // appends what became complete
  void flush(std::string& out);                         // an unfinished character becomes U+FFFD
  const std::string& pending() const { return pending_; }

 private:
  std::string pending_;  // at most 3 bytes: the beginning of a character
};

// Decodes all ids at once; special tokens are omitted unless asked for.
std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool show_special);

}  // namespace finermoe
