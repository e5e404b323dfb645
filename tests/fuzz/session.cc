// Restoring a session. Input: a byte that chooses the model, then a session file without the checksum at its end; the
// checksum and the model's fingerprint are put right here.
#include <openssl/sha.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "support.h"

using namespace fuzz;

namespace {

constexpr size_t context = 12, fingerprint_at = 24, fingerprint_size = 64, header_size = 88;

// What finermoe_session_save writes.
std::string saved(finermoe_session* session) {
  std::string folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz-XXXXXX" : "/tmp/fuzz-XXXXXX";
  HOLDS(mkdtemp(folder.data()) != nullptr);
  const std::string path = folder + "/session";
  const int32_t code = run([&](auto** e) { return finermoe_session_save(session, path.c_str(), e); });
  std::string content;
  if (std::FILE* file = std::fopen(path.c_str(), "rb")) {
    char part[4096];
    while (const size_t n = std::fread(part, 1, sizeof part, file)) content.append(part, n);
    std::fclose(file);
  }
  unlink(path.c_str());
  rmdir(folder.c_str());
  HOLDS(ok(code));
  return content;
}

int32_t restore(finermoe_session* session, const std::string& content) {
  static const int file = memfd_create("session", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  HOLDS(ftruncate(file, 0) == 0);
  HOLDS(pwrite(file, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()));
  return run([&](auto** e) { return finermoe_session_restore(session, path.c_str(), e); });
}

struct TestModel {
  Model model;
  std::string fingerprint;
};
template <size_t n>
TestModel make_model(const unsigned char (&data)[n]) {
  TestModel out{open_model(data, n), ""};
  HOLDS(out.model != nullptr);
  out.fingerprint = saved(open_session(out.model.get(), 1).get()).substr(fingerprint_at, fingerprint_size);
  return out;
}

// With the right fingerprint and checksum.
std::string complete(std::string content, const std::string& fingerprint) {
  if (content.size() >= header_size) content.replace(fingerprint_at, fingerprint_size, fingerprint);
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(content.data()), content.size(), digest);
  for (unsigned char byte : digest) {
    content += "0123456789abcdef"[byte >> 4];
    content += "0123456789abcdef"[byte & 15];
  }
  return content;
}

Session make_session(finermoe_model* model, int32_t kv_dtype) {
  const auto options =
      must<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  run([&](auto** e) { return finermoe_session_options_set_context_length(options.get(), context, e); });
  run([&](auto** e) { return finermoe_session_options_set_kv_dtype(options.get(), kv_dtype, e); });
  return must<Session>([&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
}

bool append(finermoe_session* session, const std::vector<int32_t>& ids) {
  return ok(run([&](auto** e) {
    return finermoe_session_append(session, ids.data(), ids.size(), FINERMOE_LOGITS_LAST, nullptr, e);
  }));
}
std::vector<float> next_logits(finermoe_session* session, size_t length) {
  HOLDS(append(session, {4}));
  std::vector<float> logits = session_logits(session, 0);
  HOLDS(ok(run([&](auto** e) { return finermoe_session_truncate(session, length, e); })));
  return logits;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const TestModel moe = make_model(moe_model), small = make_model(small_model);
  if (size == 0) return 0;
  const TestModel& chosen = data[0] % 2 == 0 ? moe : small;
  const std::string content = complete({reinterpret_cast<const char*>(data) + 1, size - 1}, chosen.fingerprint);
  const unsigned char dtype = size > 13 ? data[13] : 0;
  const Session session = make_session(chosen.model.get(), dtype <= FINERMOE_DTYPE_Q8 ? dtype : 0);
  const std::vector<int32_t> before = {1, 2, 3};
  HOLDS(append(session.get(), before));
  const std::vector<float> expected = next_logits(session.get(), before.size());
  if (!ok(restore(session.get(), content))) {  // a refused file changes nothing
    HOLDS(session_tokens(session.get()) == before);
    HOLDS(next_logits(session.get(), before.size()) == expected);
    return 0;
  }
  const std::vector<int32_t> tokens = session_tokens(session.get());
  const uint64_t vocab_size = config_info(chosen.model.get()).vocab_size;
  HOLDS(tokens.size() <= context);
  for (int32_t id : tokens) HOLDS(id >= 0 && static_cast<uint64_t>(id) < vocab_size);
  HOLDS(saved(session.get()) == content);
  if (tokens.size() < context && !append(session.get(), {0})) HOLDS(session_tokens(session.get()) == tokens);
  HOLDS(ok(run([&](auto** e) { return finermoe_session_reset(session.get(), e); })));
  HOLDS(append(session.get(), before));
  HOLDS(next_logits(session.get(), before.size()) == expected);
  n_completed++;
  return 0;
}
