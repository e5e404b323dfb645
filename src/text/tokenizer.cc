#include "text/tokenizer.h"

#include <algorithm>
#include <climits>

#include "base/foreign_file.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/chat_template.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"
#include "text/vocab_and_merges.h"
#include "text/vocabulary.h"

namespace finermoe {
namespace {

constexpr size_t kWindow = 16 << 10;  // bytes that are normalized at a time, so that they stay in the cache

Status malformed(const TokenizerFile& file, std::string_view message) {
  return Status(FINERMOE_ERROR_TOKENIZER_MALFORMED, format_text(file.name, ": ", message));
}

// The printable characters that represent bytes in tokenizer.json: printable Latin-1 bytes as themselves, the others as
// U+0100 and up, in order.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      byte_of_[printable ? byte : next++] = static_cast<int16_t>(byte);
    }
  }
  // The bytes that a token's spelling represents; false if it has other characters.
  bool decode(std::string_view spelling, std::string& bytes) const {
    bytes.clear();
    for (size_t at = 0; at < spelling.size();) {
      Decoded next = decode_utf8(spelling, at);
      if (next.code_point >= byte_of_.size() || byte_of_[next.code_point] < 0) return false;
      bytes += static_cast<char>(byte_of_[next.code_point]);
      at += next.size;
    }
    return true;
  }

 private:
  std::vector<int16_t> byte_of_ = std::vector<int16_t>(0x100 + 68, -1);  // by code point; 68 bytes are not printable
};

class BpeTokenizer final : public Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> build(const TokenizerFile& file,
                                                        const Result<TokenizerConfig>& config,
                                                        const TokenizerTexts& texts);

  BpeTokenizer(size_t n_tokens, Pretokenizer pretokenizer)
      : vocabulary_(n_tokens), pretokenizer_(std::move(pretokenizer)) {}

  Status encode(std::string_view text, EncodeOptions options,
                FunctionRef<void(int32_t id, ByteRange range)> emit) const override;
  std::string_view bytes(int32_t id) const override { return vocabulary_.bytes(id); }
  TokenKind kind(int32_t id) const override {
    return id >= 0 && static_cast<size_t>(id) < kinds_.size() ? kinds_[id] : TokenKind::unused;
  }
  int32_t find(std::string_view text) const override { return vocabulary_.find(text); }
  size_t vocab_size() const override { return vocabulary_.size(); }
  size_t n_added() const override { return n_added_; }
  Status config_status() const override { return config_status_; }
  int32_t bos_id() const override { return bos_id_; }
  int32_t eos_id() const override { return eos_id_; }
  int32_t pad_id() const override { return pad_id_; }

  Status chat_status() const override { return chat_status_; }
  int32_t end_of_turn_id() const override { return chat_status_.ok() ? chat_end_ : -1; }
  Result<std::string> render_chat(std::span<const ChatMessage> messages, ChatEnd end) const override;
  Result<std::vector<int32_t>> encode_chat(std::span<const ChatMessage> messages, ChatEnd end) const override;

 private:
  class Encoder;

  Status build_vocabulary(const TokenizerFile& file, const ByteAlphabet& alphabet);
  Status build_merges(const TokenizerFile& file, const ByteAlphabet& alphabet);
  Status build_added(const TokenizerFile& file);
  Status build_chat(const Result<TokenizerConfig>& config, const TokenizerTexts::Text& chat_template);
  void encode_word(std::string_view word, Bpe::Scratch& scratch) const;

  Vocabulary vocabulary_;
  Pretokenizer pretokenizer_;
  std::optional<Bpe> bpe_;
  std::vector<TokenKind> kinds_;   // by id
  std::vector<bool> whole_words_;  // by id: a word equal to this token is not split and merged; empty: all words are
  bool nfc_ = false;
  std::vector<int32_t> before_, after_;  // the tokens added around a text
  size_t n_added_ = 0;
  AddedTokens raw_, normalized_;  // matched in the text as it is, and after normalization
  Status config_status_;
  int32_t bos_id_ = -1, eos_id_ = -1, pad_id_ = -1;
  int32_t chat_start_ = -1, chat_end_ = -1;
  ChatTemplate chat_;
  Status chat_status_;
};

// The state of one encode call; the tokenizer itself is shared.
class BpeTokenizer::Encoder {
 public:
  using Emit = FunctionRef<void(int32_t id, ByteRange range)>;

  Encoder(const BpeTokenizer& tokenizer, bool parse_special, Pretokenizer::Matcher matcher, Emit emit)
      : tokenizer_(tokenizer), parse_special_(parse_special), matcher_(std::move(matcher)), emit_(emit) {}

  Status run(std::string_view text) {
    return tokenizer_.raw_.split(text, parse_special_, [&](size_t begin, size_t end, int32_t id) -> Status {
      if (id < 0) return encode_piece(text.substr(begin, end - begin), begin);
      emit_(id, {begin, end});
      return {};
    });
  }

 private:
  Status encode_piece(std::string_view piece, uint64_t offset) {
    // Tokens that are matched after normalization may cross the end of a window.
    const size_t window = tokenizer_.normalized_.empty() ? kWindow : piece.size();
    while (!piece.empty()) {
      size_t taken = normalize_window(piece, window, tokenizer_.nfc_, window_);
      offset_ = offset;
      if (tokenizer_.normalized_.empty()) {
        FM_TRY(encode_words(0, window_.text, window_.classes));
      } else {
        auto part = [&](size_t begin, size_t end, int32_t id) -> Status {
          if (id >= 0) {
            emit_(id, original(begin, end));
            return {};
          }
          std::string_view between = window_.text.substr(begin, end - begin);
          classify(between, classes_);
          return encode_words(begin, between, classes_);
        };
        FM_TRY(tokenizer_.normalized_.split(window_.text, parse_special_, part));
      }
      piece.remove_prefix(taken);
      offset += taken;
    }
    return {};
  }

  // `text` begins at window_.text[at].
  Status encode_words(size_t at, std::string_view text, std::string_view classes) {
    const bool ascii = classes.size() == text.size();
    size_t begin = 0;
    return matcher_.split(classes, [&](size_t length) {
      size_t end = begin;
      if (ascii) {
        end += length;
      } else {
        for (size_t i = 0; i < length; ++i) {
          auto lead = static_cast<unsigned char>(text[end]);
          end += lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        }
      }
      tokenizer_.encode_word(text.substr(begin, end - begin), scratch_);
      for (int32_t id : scratch_.ids) {
        size_t next = begin + tokenizer_.vocabulary_.length(id);
        emit_(id, original(at + begin, at + next));
        begin = next;
      }
    });
  }

  ByteRange original(size_t begin, size_t end) const {
    if (window_.begin.empty()) return {offset_ + begin, offset_ + end};
    return {offset_ + window_.begin[begin], offset_ + window_.end[end - 1]};
  }

  const BpeTokenizer& tokenizer_;
  const bool parse_special_;
  Pretokenizer::Matcher matcher_;
  Emit emit_;
  Normalized window_;
  uint64_t offset_ = 0;  // of the window in the text
  std::string classes_;
  Bpe::Scratch scratch_;
};

void BpeTokenizer::encode_word(std::string_view word, Bpe::Scratch& scratch) const {
  if (!whole_words_.empty()) {
    const int32_t id = vocabulary_.find(word);
    if (id >= 0 && static_cast<size_t>(id) < whole_words_.size() && whole_words_[id]) {
      scratch.ids.assign(1, id);
      return;
    }
  }
  bpe_->encode(word, scratch);
}

Status BpeTokenizer::encode(std::string_view text, EncodeOptions options,
                            FunctionRef<void(int32_t id, ByteRange range)> emit) const {
  if (text.size() > INT32_MAX) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("a text of ", text.size(), " bytes; expected at most ", INT32_MAX, " in one call"));
  }
  FM_ASSIGN(auto matcher, Pretokenizer::Matcher::create(pretokenizer_));
  auto emit_all = [&](const std::vector<int32_t>& ids) {
    for (int32_t id : ids) emit(id, {0, 0});
  };
  if (options.add_special) emit_all(before_);
  FM_TRY(Encoder(*this, options.parse_special, std::move(matcher), emit).run(text));
  if (options.add_special) emit_all(after_);
  return {};
}

Result<std::string> BpeTokenizer::render_chat(std::span<const ChatMessage> messages, ChatEnd end) const {
  FM_TRY(chat_status_);
  FM_ASSIGN(auto parts, render_chat_parts(chat_, messages, end));
  std::string text;
  for (const ChatPart& part : parts) text += part.text;
  return text;
}

Result<std::vector<int32_t>> BpeTokenizer::encode_chat(std::span<const ChatMessage> messages, ChatEnd end) const {
  FM_TRY(chat_status_);
  FM_ASSIGN(auto parts, render_chat_parts(chat_, messages, end));
  std::vector<int32_t> ids;
  for (const ChatPart& part : parts) {
    if (part.special) {
      ids.push_back(part.text == kChatStart ? chat_start_ : chat_end_);
    } else {
      FM_TRY(encode(part.text, {.add_special = false}, [&](int32_t id, ByteRange) { ids.push_back(id); }));
    }
  }
  return ids;
}

Result<std::shared_ptr<const Tokenizer>> BpeTokenizer::build(const TokenizerFile& file,
                                                             const Result<TokenizerConfig>& config,
                                                             const TokenizerTexts& texts) {
  FM_ASSIGN(Pretokenizer pretokenizer, Pretokenizer::create(file.components.numbers));
  auto made = std::make_shared<BpeTokenizer>(file.tokens.size() + file.added.size(), std::move(pretokenizer));
  made->nfc_ = file.components.nfc;
  made->before_ = file.components.before;
  made->after_ = file.components.after;
  const ByteAlphabet alphabet;
  FM_TRY(made->build_vocabulary(file, alphabet));
  FM_TRY(made->build_merges(file, alphabet));
  FM_TRY(made->build_added(file));
  for (const std::vector<int32_t>* around : {&made->before_, &made->after_}) {
    for (int32_t id : *around) {
      if (!made->vocabulary_.has(id))
        return malformed(file, format_text("the post_processor adds the id ", id, ", which has no token"));
    }
  }
  made->config_status_ = config.ok() ? config->roles : config.status();
  if (made->config_status_.ok()) {
    auto id_of = [&](const char* role) {
      const std::optional<std::string> content = config->token(role);
      if (!content) return -1;
      auto same = [&](const AddedToken& token) { return token.content == *content; };
      auto added = std::find_if(file.added.begin(), file.added.end(), same);
      return added != file.added.end() ? added->id : made->vocabulary_.find(*content);
    };
    made->bos_id_ = id_of("bos_token");
    made->eos_id_ = id_of("eos_token");
    made->pad_id_ = id_of("pad_token");
  }
  if (const std::optional<int32_t> id = bos_of_model(texts.model_config);
      made->bos_id_ < 0 && id && made->kind(*id) != TokenKind::unused) {
    made->bos_id_ = *id;
  }
  made->chat_status_ = made->build_chat(config, texts.chat_template);
  return std::shared_ptr<const Tokenizer>(std::move(made));
}

Status BpeTokenizer::build_vocabulary(const TokenizerFile& file, const ByteAlphabet& alphabet) {
  std::string bytes;
  std::vector<size_t> others;  // spelled with other characters: no merge produces them, they can only be decoded
  for (size_t i = 0; i < file.tokens.size(); ++i) {
    std::string_view spelling = file.tokens[i];
    const int32_t id = file.ids[i];
    if (vocabulary_.has(id))
      return malformed(file, format_text("the id ", id, " appears twice in vocab, at \"", spelling, "\""));
    bool spelled = alphabet.decode(spelling, bytes);
    vocabulary_.set(id, spelled ? bytes : spelling);
    if (!spelled) {
      others.push_back(i);
    } else if (vocabulary_.find(bytes) >= 0) {
      return malformed(file, format_text("the token \"", spelling, "\" appears twice in vocab"));
    } else {
      vocabulary_.index(id);
    }
  }
  kinds_.assign(vocabulary_.size(), TokenKind::unused);
  for (int32_t id : file.ids) kinds_[id] = TokenKind::normal;
  if (file.components.ignore_merges) {
    whole_words_.assign(vocabulary_.size(), false);
    for (int32_t id : file.ids) whole_words_[id] = true;
    for (size_t i : others) whole_words_[file.ids[i]] = false;
  }
  for (size_t i : others) {
    int32_t known = vocabulary_.find(file.tokens[i]);
    if (known < 0) vocabulary_.index(file.ids[i]);
  }
  return {};
}

Status BpeTokenizer::build_merges(const TokenizerFile& file, const ByteAlphabet& alphabet) {
  std::array<int32_t, 256> byte_ids;
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    byte_ids[byte] = vocabulary_.find({&text, 1});
    if (byte_ids[byte] < 0) return malformed(file, format_text("vocab lacks the byte ", byte, ", expected all 256"));
  }
  const size_t n_merges = file.merges.size() / 2;
  const auto n_also_added = std::count_if(file.added.begin(), file.added.end(),
                                          [&](const AddedToken& token) { return vocabulary_.has(token.id); });
  if (n_merges == 0 && file.tokens.size() > 256 + static_cast<size_t>(n_also_added)) {
    return Status(FINERMOE_ERROR_TOKENIZER_MERGES,
                  format_text(file.name, ": no merges, but a vocab of ", file.tokens.size(), " tokens"));
  }
  bpe_.emplace(byte_ids, n_merges);
  std::string left, right;
  for (size_t i = 0; i < n_merges; ++i) {
    auto name = [&] {
      return format_text(file.name, ": merge ", i, " (\"", file.merges[2 * i], "\", \"", file.merges[2 * i + 1], "\")");
    };
    bool spelled = alphabet.decode(file.merges[2 * i], left) && alphabet.decode(file.merges[2 * i + 1], right);
    // The result of a merge is longer than either part, unless one of them is empty.
    if (left.empty() || right.empty()) {
      return Status(FINERMOE_ERROR_TOKENIZER_CYCLIC, format_text(name(), " gives one of its own parts"));
    }
    int32_t left_id = vocabulary_.find(left), right_id = vocabulary_.find(right),
            merged = vocabulary_.find(left + right);
    if (!spelled || left_id < 0 || right_id < 0 || merged < 0) {
      const char* which = left_id < 0 ? "its left part" : right_id < 0 ? "its right part" : "its result";
      return Status(FINERMOE_ERROR_TOKENIZER_MERGES, format_text(name(), ": ", which, " is not in vocab"));
    }
    if (!bpe_->add_merge(left_id, right_id, merged)) {
      return Status(FINERMOE_ERROR_TOKENIZER_MERGES, format_text(name(), " appears twice"));
    }
  }
  return {};
}

Status BpeTokenizer::build_added(const TokenizerFile& file) {
  for (const AddedToken& token : file.added) {
    if (vocabulary_.has(token.id)) {
      if (kind(token.id) != TokenKind::normal || vocabulary_.bytes(token.id) != token.content) {
        return malformed(file, format_text("the id ", token.id, " of added token \"", token.content,
                                           "\" is taken by \"", vocabulary_.bytes(token.id), "\""));
      }
    } else {
      if (int32_t known = vocabulary_.find(token.content); known >= 0) {
        return malformed(file,
                         format_text("the added token \"", token.content, "\" has the ids ", known, " and ", token.id));
      }
      vocabulary_.set(token.id, token.content);
      vocabulary_.index(token.id);
      kinds_.resize(vocabulary_.size(), TokenKind::unused);
    }
    kinds_[token.id] = token.special ? TokenKind::special : TokenKind::added;
    if (token.normalized) {
      normalized_.add(nfc_ ? normalize_nfc(token.content) : token.content, token);
    } else {
      raw_.add(token.content, token);
    }
  }
  n_added_ = file.added.size();
  raw_.finish();
  normalized_.finish();
  return {};
}

Status BpeTokenizer::build_chat(const Result<TokenizerConfig>& config, const TokenizerTexts::Text& chat_template) {
  FM_ASSIGN(std::optional<std::string> source, chat_template);
  if (!source) {
    FM_TRY(config.status());
    FM_ASSIGN(source, chat_template_of(*config));
  }
  if (!source) return Status(FINERMOE_ERROR_CHAT_TEMPLATE, "this model has no chat template");
  if (const auto foreign = recognise_foreign_file(*source)) {
    return foreign_file_error(*foreign, "the chat template", FINERMOE_ERROR_CHAT_TEMPLATE, "a template");
  }
  FM_ASSIGN(chat_, recognise_chat_template(*source));
  chat_start_ = vocabulary_.find(kChatStart);
  chat_end_ = vocabulary_.find(kChatEnd);
  if (kind(chat_start_) == TokenKind::special && kind(chat_end_) == TokenKind::special) return {};
  return Status(FINERMOE_ERROR_CHAT_TEMPLATE, format_text("the chat template needs the special tokens ", kChatStart,
                                                          " and ", kChatEnd, ", which the tokenizer lacks"));
}

}  // namespace

TokenizerTexts TokenizerTexts::read(Read read_text) {
  TokenizerTexts texts;
  texts.tokenizer_json = read_text("tokenizer.json");
  if (texts.tokenizer_json.ok() && !*texts.tokenizer_json) {
    texts.vocab_json = read_text("vocab.json");
    texts.merges = read_text("merges.txt");
    texts.added_tokens = read_text("added_tokens.json");
  }
  texts.config = read_text("tokenizer_config.json");
  texts.special_tokens_map = read_text("special_tokens_map.json");
  texts.model_config = read_text("config.json");
  texts.chat_template = read_text("chat_template.jinja");
  return texts;
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::parse(const TokenizerTexts& texts, std::string_view model) {
  FM_TRY(texts.tokenizer_json.status());
  FM_TRY(texts.vocab_json.status());
  Result<TokenizerConfig> config = read_tokenizer_config(texts);
  if (*texts.tokenizer_json) {
    FM_ASSIGN(const TokenizerFile file, read_tokenizer_json(**texts.tokenizer_json));
    return BpeTokenizer::build(file, config, texts);
  }
  if (!*texts.vocab_json) {
    return Status(FINERMOE_ERROR_NO_TOKENIZER,
                  format_text(model, " has neither tokenizer.json nor vocab.json: only token ids can be used with it"),
                  "tokenizer.json", "none");
  }
  FM_TRY(config.status());
  FM_TRY(config->roles);
  FM_ASSIGN(const TokenizerFile file, read_vocab_and_merges(texts, *config));
  return BpeTokenizer::build(file, config, texts);
}

}  // namespace finermoe
