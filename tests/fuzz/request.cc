// Restoring a request. Input: what finermoe_generation_save_memory writes between its head and its checksum, with zeros
// in the place of the fingerprint and of the digest of the tokens; head, these two and the checksum are put right here.
#include <openssl/sha.h>

#include "support.h"

using namespace fuzz;

namespace {

// Lengths of 8 bytes stand before both hexadecimal digests.
constexpr size_t context = 12, head_size = 12, digest_size = 64, fingerprint_at = 8, tokens_at = 80;
const std::vector<int32_t> held = {1, 2, 3};

std::string hexadecimal_sha256(const std::string& data) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(), digest);
  std::string out;
  for (unsigned char byte : digest) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

Session make_session(finermoe_model* model) {
  Session session = open_session(model, context);
  HOLDS(session != nullptr);
  HOLDS(ok(run([&](auto** e) {
    return finermoe_session_append(session.get(), held.data(), held.size(), FINERMOE_LOGITS_NONE, nullptr, e);
  })));
  return session;
}

std::string saved(const finermoe_generation* generation) {
  int32_t code;
  const auto data =
      read<char>([&](auto... rest) { return finermoe_generation_save_memory(generation, rest...); }, &code);
  HOLDS(ok(code));
  return {data.begin(), data.end()};
}

Generation restore(finermoe_session* session, const std::string& data) {
  return create<Generation>([&](auto** out, auto** e) {
    return finermoe_generation_restore_memory(session, data.data(), data.size(), out, e);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Model model = open_model(moe_model, sizeof moe_model);
  static const std::string sample = [] {
    const Session session = make_session(model.get());
    const auto generation = must<Generation>(
        [&](auto** out, auto** e) { return finermoe_generation_create(session.get(), nullptr, nullptr, 0, out, e); });
    return saved(generation.get());
  }();
  std::string content(reinterpret_cast<const char*>(data), size);
  for (const size_t at : {fingerprint_at, tokens_at}) {
    if (content.size() >= at + digest_size) content.replace(at, digest_size, sample, head_size + at, digest_size);
  }
  content = sample.substr(0, head_size) + content;
  content += hexadecimal_sha256(content);

  const Session session = make_session(model.get());
  const Generation generation = restore(session.get(), content);
  HOLDS(session_tokens(session.get()) == held);
  if (generation == nullptr) return 0;
  // What is saved of it says the same, and it can be used like any other.
  const std::string again = saved(generation.get());
  const Session other_session = make_session(model.get());
  const Generation other = restore(other_session.get(), again);
  HOLDS(other != nullptr);
  const uint64_t vocab_size = config_info(model.get()).vocab_size;
  for (size_t n = 0; n < context; n++) {
    finermoe_event event, same;
    const int32_t code = next(generation.get(), vocab_size, event);
    HOLDS(next(other.get(), vocab_size, same) == code);
    HOLDS(event.token == same.token && event.finish_reason == same.finish_reason);
    if (!ok(code) || event.finish_reason != FINERMOE_FINISH_NONE) break;
    HOLDS(std::string(event.text) == same.text);
  }
  n_completed++;
  return 0;
}
