// Saving and restoring sessions. The layout is docs/format.md, "Session files".
#include <algorithm>
#include <array>
#include <cstring>

#include "backend/kv_cache.h"
#include "base/sha256.h"
#include "base/whole_file.h"
#include "runtime/session.h"

namespace finermoe {
namespace {

constexpr std::array<char, 8> magic = {'F', 'R', 'M', 'O', 'E', 'S', 'E', 'S'};
constexpr uint32_t version = 1;

// All integers little-endian. After it: token ids int32 [length], then per layer keys [n_kv_heads, length] and values
// of the same shape, each a vector on its own (backend/kv_cache.h) of the cache's type, then the SHA-256 of all that
// came before.
struct Header {
  std::array<char, 8> file_magic = magic;
  uint32_t file_version = version;
  int32_t kv_dtype = 0;
  uint64_t length = 0;
  std::array<char, 64> fingerprint{};  // of the model, hexadecimal
};
static_assert(sizeof(Header) == 88);
constexpr size_t digest_size = 64;  // hexadecimal

Status malformed(const std::string& path, std::string_view what, std::string expected, std::string found) {
  return Status(FINERMOE_ERROR_SESSION_MALFORMED, cat(path, " is not a usable session file: ", what),
                std::move(expected), std::move(found));
}

// Heads are counted through all layers, of keys and then of values in each.
KvKind kind_of(uint64_t head, const Config& config) {
  return head / config.n_kv_heads % 2 == 0 ? KvKind::key : KvKind::value;
}

std::span<const std::byte> bytes_of(const void* data, size_t size) {
  return {static_cast<const std::byte*>(data), size};
}

}  // namespace

Status Session::save(const std::string& path) const {
  FM_ASSIGN(const std::string fingerprint, model_->fingerprint());
  Header header;
  header.kv_dtype = static_cast<int32_t>(options_.kv_dtype);
  header.length = length();
  std::copy_n(fingerprint.begin(), header.fingerprint.size(), header.fingerprint.begin());

  FM_ASSIGN(auto file, WholeFile::create(path));
  Sha256 hash;
  auto write = [&](std::span<const std::byte> part) {
    hash.update(part);
    return file.write(part);
  };
  FM_TRY(write(bytes_of(&header, sizeof header)));
  FM_TRY(write(bytes_of(tokens_.data(), tokens_.size() * sizeof(int32_t))));
  const Config& config = model_->config();
  const KvLayout layout(options_.kv_dtype, config.head_size);
  constexpr size_t at_once = 128;
  std::vector<std::byte> vectors(at_once * layout.vector_bytes());
  for (uint64_t head = 0; head < config.n_layers * 2 * config.n_kv_heads; head++) {
    const std::byte* from = cache_.data() + head * layout.head_bytes(capacity());
    for (size_t begin = 0; begin < length(); begin += at_once) {
      const size_t n = std::min(at_once, length() - begin);
      for (size_t i = 0; i < n; i++) {
        layout.get(kind_of(head, config), from, begin + i, vectors.data() + i * layout.vector_bytes());
      }
      FM_TRY(write({vectors.data(), n * layout.vector_bytes()}));
    }
  }
  const std::string digest = hash.hex();
  FM_TRY(file.write(bytes_of(digest.data(), digest.size())));
  return file.commit();
}

Status Session::restore(const std::string& path) {
  FM_ASSIGN(auto opened, File::open(path));
  FM_ASSIGN(auto file, Bytes::map(std::move(opened)));
  if (file->size() < sizeof(Header) + digest_size) {
    return malformed(path, "it is too short", cat("at least ", sizeof(Header) + digest_size, " bytes"),
                     cat(file->size(), " bytes"));
  }
  Header header;
  std::memcpy(&header, file->data(), sizeof header);
  if (header.file_magic != magic) return malformed(path, "it does not begin as one", "FRMOESES", "other bytes");
  if (header.file_version != version) {
    return malformed(path, "it has another version", cat(version), cat(header.file_version));
  }
  Sha256 hash;
  hash.update({file->data(), file->size() - digest_size});
  const std::string digest = hash.hex();
  if (std::memcmp(digest.data(), file->data() + file->size() - digest_size, digest_size) != 0) {
    return malformed(path, "its checksum does not match: it is damaged or cut short", digest, "another SHA-256");
  }
  FM_ASSIGN(const std::string fingerprint, model_->fingerprint());
  if (std::memcmp(fingerprint.data(), header.fingerprint.data(), header.fingerprint.size()) != 0) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, cat(path, " was saved from another model"), fingerprint,
                  std::string(header.fingerprint.data(), header.fingerprint.size()));
  }
  if (header.kv_dtype != static_cast<int32_t>(options_.kv_dtype)) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, cat(path, " was saved with another type of KV cache"),
                  cat("dtype ", static_cast<int32_t>(options_.kv_dtype)), cat("dtype ", header.kv_dtype));
  }
  if (header.length > capacity()) {
    return Status(FINERMOE_ERROR_CONTEXT_LENGTH, cat(path, " holds more tokens than this session can"),
                  cat("at most ", capacity()), cat(header.length));
  }
  const Config& config = model_->config();
  const KvLayout layout(options_.kv_dtype, config.head_size);
  const uint64_t n_heads = config.n_layers * 2 * config.n_kv_heads;
  const uint64_t expected =
      sizeof header + header.length * (sizeof(int32_t) + n_heads * layout.vector_bytes()) + digest_size;
  if (file->size() != expected) {
    return malformed(path, "its size does not follow from its length", cat(expected, " bytes"),
                     cat(file->size(), " bytes"));
  }
  const std::byte* from = file->data() + sizeof header;
  std::vector<int32_t> tokens(header.length);
  if (!tokens.empty()) std::memcpy(tokens.data(), from, tokens.size() * sizeof(int32_t));
  from += tokens.size() * sizeof(int32_t);
  for (int32_t id : tokens) {
    if (id < 0 || static_cast<uint64_t>(id) >= config.vocab_size) {
      return malformed(path, "it holds a token id outside the vocabulary", cat("0 to ", config.vocab_size - 1),
                       cat(id));
    }
  }
  for (uint64_t head = 0; head < n_heads; head++) {
    std::byte* to = cache_.data() + head * layout.head_bytes(capacity());
    for (uint64_t p = 0; p < header.length; p++, from += layout.vector_bytes()) {
      layout.put(kind_of(head, config), from, p, to);
    }
  }
  tokens_ = std::move(tokens);
  n_logits_ = 0;
  return {};
}

}  // namespace finermoe
