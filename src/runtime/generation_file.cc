// Saving and restoring requests. The layout is docs/format.md, "Saved requests".
#include <algorithm>
#include <cstring>

#include "base/sha256.h"
#include "runtime/generation.h"
#include "runtime/step.h"

namespace finermoe {
namespace {

constexpr std::string_view magic = "FRMOEGEN";
constexpr uint32_t version = 2;     // 1 has no drafts
constexpr size_t digest_size = 64;  // hexadecimal

Status malformed(std::string_view what, std::string expected = {}, std::string found = {}) {
  return Status(FINERMOE_ERROR_SESSION_MALFORMED, format_text("the data is not a usable saved request: ", what),
                std::move(expected), std::move(found));
}

std::string digest_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

// Numbers are little-endian; strings and lists follow their length. Writer and reader have the same functions, so that
// one description serves both.
class Writer {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void value(const T& x) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&x);
    out.insert(out.end(), bytes, bytes + sizeof x);
  }
  void value(const std::string& text) {
    value(uint64_t{text.size()});
    for (const char c : text) value(c);
  }
  template <class T>
  void list(const std::vector<T>& values) {
    value(uint64_t{values.size()});
    for (const T& x : values) value(x);
  }
  std::vector<std::byte> out;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void value(T& x) {
    if (in_.size() < sizeof x) return fail();
    std::memcpy(&x, in_.data(), sizeof x);
    in_ = in_.subspan(sizeof x);
  }
  void value(std::string& text) {
    text.resize(length(1));
    for (char& c : text) value(c);
  }
  template <class T>
  void list(std::vector<T>& values) {
    values.resize(length(std::is_same_v<T, std::string> ? sizeof(uint64_t) : sizeof(T)));
    for (T& x : values) value(x);
  }
  bool is_whole() const { return !has_failed_ && in_.empty(); }

 private:
  void fail() {
    has_failed_ = true;
    in_ = {};
  }
  // No more than the remaining bytes can hold.
  size_t length(size_t bytes_of_one) {
    uint64_t n = 0;
    value(n);
    if (n <= in_.size() / bytes_of_one) return n;
    fail();
    return 0;
  }
  std::span<const std::byte> in_;
  bool has_failed_ = false;
};

bool is_utf8(const std::string& text) {
  std::string whole;
  Utf8Stream utf8;
  utf8.push(text, whole);
  return utf8.pending().empty() && whole == text;
}

}  // namespace

struct Generation::State {
  std::string fingerprint, tokens;  // SHA-256 of the model, and of the ids that the session holds
  GenerationOptions options;
  std::vector<int32_t> biased;
  std::vector<float> biases;
  uint64_t random = 0;
  std::vector<int32_t> seen;
  std::vector<uint32_t> n_seen;
  std::string pending, held, ready;  // of the pending output text
  Finish finish = Finish::none;
  uint64_t n_prompt = 0, n_kept = 0, n_generated = 0;
  uint64_t n_drafted = 0, n_accepted = 0;

  template <class Archive>
  void visit(Archive& archive, uint32_t of_version) {
    archive.value(fingerprint);
    archive.value(tokens);
    for (const SamplingRange& range : sampling_ranges) archive.value(options.sampling.*range.number);
    archive.value(options.sampling.top_k);
    archive.value(options.sampling.seed);
    archive.list(biased);
    archive.list(biases);
    count(archive, options.max_tokens);
    count(archive, options.min_tokens);
    archive.list(options.stop_tokens);
    archive.list(options.stop_strings);
    uint8_t ignore_eos = options.ignore_eos, show_special = options.show_special;
    archive.value(ignore_eos);
    archive.value(show_special);
    options.ignore_eos = ignore_eos != 0;
    options.show_special = show_special != 0;
    count(archive, options.top_logprobs);
    if (of_version >= 2) {
      count(archive, options.drafts.n_lookup);
      archive.value(n_drafted);
      archive.value(n_accepted);
    }
    archive.value(random);
    archive.list(seen);
    archive.list(n_seen);
    archive.value(pending);
    archive.value(held);
    archive.value(ready);
    archive.value(finish);
    archive.value(n_prompt);
    archive.value(n_kept);
    archive.value(n_generated);
  }

  // 8 bytes on every machine; a narrower size_t saturates.
  template <class Archive>
  static void count(Archive& archive, size_t& n) {
    uint64_t wide = n;
    archive.value(wide);
    n = static_cast<size_t>(std::min<uint64_t>(wide, SIZE_MAX));
  }

  // Checks what reading alone does not; the ids of the options are checked when the generation is created.
  Status check(uint64_t vocab_size) const {
    for (const SamplingRange& range : sampling_ranges) {
      if (!range.holds(options.sampling.*range.number))
        return malformed(format_text(range.name, " is out of its range"));
    }
    if (biased.size() != biases.size() || seen.size() != n_seen.size()) return malformed("its lists do not match");
    for (const float bias : biases) {
      if (!is_bias(bias)) return malformed("a bias is out of its range");
    }
    for (size_t i = 0; i < seen.size(); i++) {
      const int32_t least = i == 0 ? 0 : seen[i - 1] + 1;
      if (seen[i] < least || static_cast<uint64_t>(seen[i]) >= vocab_size) return malformed("a token is out of order");
    }
    for (const std::string& stop : options.stop_strings) {
      if (stop.empty()) return malformed("a stop string is empty");
    }
    std::string complete;
    Utf8Stream utf8;
    utf8.push(pending, complete);
    if (!complete.empty() || !is_utf8(held) || !is_utf8(ready)) return malformed("its text is not UTF-8");
    if (options.drafts.n_lookup > most_drafts) return malformed("it drafts more tokens than can be");
    if (n_generated > SIZE_MAX / 2) return malformed("a count is out of its range");
    if (finish < Finish::none || finish > Finish::host) return malformed("its finish reason is unknown");
    return {};
  }
};

Result<std::vector<std::byte>> Generation::save() const {
  const ExclusiveUse session_use(session_->use, "session");
  FM_TRY(session_use.check());
  State state;
  FM_ASSIGN(state.fingerprint, session_->model()->fingerprint());
  state.tokens = digest_of(std::as_bytes(std::span(session_->tokens())));
  state.options = options_;
  for (const auto& [id, bias] : options_.sampling.logit_bias) {
    state.biased.push_back(id);
    state.biases.push_back(bias);
  }
  const Sampler::State sampler = sampler_->state();
  state.random = sampler.random;
  for (const Sampler::Seen& seen : sampler.seen) {
    state.seen.push_back(seen.id);
    state.n_seen.push_back(seen.n_generated);
  }
  state.pending = text_.utf8.pending();
  state.held = text_.held;
  state.ready = text_.ready;
  state.finish = finish_;
  state.n_prompt = n_prompt_;
  state.n_kept = n_kept_;
  state.n_generated = n_generated_;
  state.n_drafted = n_drafted_;
  state.n_accepted = n_accepted_;

  Writer writer;
  for (const char c : magic) writer.value(c);
  writer.value(version);
  state.visit(writer, version);
  for (const char c : digest_of(writer.out)) writer.value(c);
  return std::move(writer.out);
}

Result<std::shared_ptr<Generation>> Generation::restore(std::shared_ptr<Session> session,
                                                        std::span<const std::byte> saved) {
  constexpr size_t head = magic.size() + sizeof version;
  if (saved.size() < head + digest_size) {
    return malformed("it is too short", format_text("at least ", head + digest_size, " bytes"),
                     format_text(saved.size(), " bytes"));
  }
  if (std::memcmp(saved.data(), magic.data(), magic.size()) != 0) {
    return malformed("it does not begin as one", std::string(magic), "other bytes");
  }
  uint32_t found = 0;
  std::memcpy(&found, saved.data() + magic.size(), sizeof found);
  if (found < 1 || found > version) {
    return malformed("it has another version", format_text("1 to ", version), format_text(found));
  }
  const auto content = saved.first(saved.size() - digest_size);
  const std::string digest = digest_of(content);
  if (std::memcmp(saved.data() + content.size(), digest.data(), digest_size) != 0) {
    return malformed("its checksum does not match: it is damaged or cut short", digest, "another SHA-256");
  }
  State state;
  Reader reader(content.subspan(head));
  state.visit(reader, found);
  if (!reader.is_whole()) return malformed("its parts do not follow from its lengths");
  FM_TRY(state.check(session->model()->config().vocab_size));
  FM_ASSIGN(const std::string fingerprint, session->model()->fingerprint());
  if (state.fingerprint != fingerprint) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, "the request was saved from another model", fingerprint,
                  state.fingerprint);
  }
  if (state.tokens != digest_of(std::as_bytes(std::span(session->tokens())))) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, "the request was saved on a session that held other tokens",
                  "the tokens that the session held then", format_text(session->length(), " other tokens"));
  }
  for (size_t i = 0; i < state.biased.size(); i++) {
    state.options.sampling.logit_bias[state.biased[i]] = state.biases[i];
  }
  FM_ASSIGN(auto generation, make(std::move(session), std::move(state.options)));
  Sampler::State sampler{state.random, {}};
  for (size_t i = 0; i < state.seen.size(); i++) sampler.seen.push_back({state.seen[i], state.n_seen[i]});
  generation->sampler_->set_state(std::move(sampler));
  std::string complete;
  generation->text_.utf8.push(state.pending, complete);
  generation->text_.held = std::move(state.held);
  generation->text_.ready = std::move(state.ready);
  generation->finish_ = state.finish;
  generation->n_prompt_ = state.n_prompt;
  generation->n_kept_ = state.n_kept;
  generation->n_generated_ = state.n_generated;
  generation->n_drafted_ = state.n_drafted;
  generation->n_accepted_ = state.n_accepted;
  generation->n_to_prefill_ = generation->session_->uncomputed().size();
  return generation;
}

}  // namespace finermoe
