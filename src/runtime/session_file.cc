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
constexpr size_t at_once = 128;     // vectors of the cache between two calls to the system

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

namespace {

// Could a session have written this, were the file whole?
Status check_fit(const Header& header, const File& file, const std::string& fingerprint, const Session& session) {
  if (!std::equal(fingerprint.begin(), fingerprint.end(), header.fingerprint.begin(), header.fingerprint.end())) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, cat(file.name(), " was saved from another model"), fingerprint,
                  std::string(header.fingerprint.data(), header.fingerprint.size()));
  }
  const auto dtype = static_cast<int32_t>(session.options().kv_dtype);
  if (header.kv_dtype != dtype) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, cat(file.name(), " was saved with another type of KV cache"),
                  cat("dtype ", dtype), cat("dtype ", header.kv_dtype));
  }
  if (header.length > session.capacity()) {
    return Status(FINERMOE_ERROR_CONTEXT_LENGTH, cat(file.name(), " holds more tokens than this session can"),
                  cat("at most ", session.capacity()), cat(header.length));
  }
  const Config& config = session.model()->config();
  const KvLayout layout(session.options().kv_dtype, config.head_size);
  const uint64_t token_bytes =
      sizeof(int32_t) + config.n_layers * 2 * config.n_kv_heads * uint64_t{layout.vector_bytes()};
  const uint64_t expected = sizeof header + header.length * token_bytes + digest_size;
  if (file.size() != expected) {
    return malformed(file.name(), "its size does not follow from its length", cat(expected, " bytes"),
                     cat(file.size(), " bytes"));
  }
  return {};
}

// A session file from its beginning to its digest, hashed as it is read. Read, not mapped: what another process cuts
// off meanwhile is an error here, and would be a SIGBUS there.
class Reader {
 public:
  explicit Reader(const File& file) : file_(file) {}
  Status read(std::span<std::byte> out) {
    FM_TRY(file_.read(offset_, out));
    hash_.update(out);
    offset_ += out.size();
    return {};
  }
  // Everything up to the digest, and whether that is the one of all that was read.
  Status finish() {
    std::array<std::byte, 65536> skipped;
    for (const uint64_t end = file_.size() - digest_size; offset_ < end;) {
      FM_TRY(read(std::span(skipped).first(std::min<uint64_t>(skipped.size(), end - offset_))));
    }
    std::array<char, digest_size> stored;
    FM_TRY(file_.read(offset_, std::as_writable_bytes(std::span(stored))));
    const std::string digest = hash_.hex();
    if (std::equal(stored.begin(), stored.end(), digest.begin(), digest.end())) return {};
    return malformed(file_.name(), "its checksum does not match: it is damaged or cut short", digest,
                     "another SHA-256");
  }

 private:
  const File& file_;
  Sha256 hash_;
  uint64_t offset_ = 0;
};

}  // namespace

Status Session::restore(const std::string& path) {
  FM_ASSIGN(const File file, File::open(path));
  if (file.is_directory()) return Status(FINERMOE_ERROR_FILE_UNREADABLE, cat(path, " is a directory"));
  if (file.size() < sizeof(Header) + digest_size) {
    return malformed(path, "it is too short", cat("at least ", sizeof(Header) + digest_size, " bytes"),
                     cat(file.size(), " bytes"));
  }
  Reader reader(file);
  Header header;
  FM_TRY(reader.read(std::as_writable_bytes(std::span(&header, 1))));
  if (header.file_magic != magic) return malformed(path, "it does not begin as one", "FRMOESES", "other bytes");
  if (header.file_version != version) {
    return malformed(path, "it has another version", cat(version), cat(header.file_version));
  }
  FM_ASSIGN(const std::string fingerprint, model_->fingerprint());
  if (Status unfit = check_fit(header, file, fingerprint, *this); !unfit.ok()) {
    FM_TRY(reader.finish());  // damage is the better explanation
    return unfit;
  }
  // In place only where there is nothing to lose.
  const uint64_t bytes = cache_.size();
  Buffer fresh;
  if (length() != 0) {
    FM_ASSIGN(fresh, Buffer::allocate(model_->runtime()->account(), bytes, "a second KV cache, to restore into"));
  }
  std::byte* const cache = length() != 0 ? fresh.data() : cache_.data();

  std::vector<int32_t> tokens(header.length);
  FM_TRY(reader.read(std::as_writable_bytes(std::span(tokens))));
  const Config& config = model_->config();
  const KvLayout layout(options_.kv_dtype, config.head_size);
  std::vector<std::byte> vectors(at_once * layout.vector_bytes());
  for (uint64_t head = 0; head < config.n_layers * 2 * config.n_kv_heads; head++) {
    for (size_t begin = 0; begin < header.length; begin += at_once) {
      const size_t n = std::min<size_t>(at_once, header.length - begin);
      FM_TRY(reader.read(std::span(vectors).first(n * layout.vector_bytes())));
      for (size_t i = 0; i < n; i++) {
        layout.put(kind_of(head, config), vectors.data() + i * layout.vector_bytes(), begin + i,
                   cache + head * layout.head_bytes(capacity()));
      }
    }
  }
  FM_TRY(reader.finish());
  for (const int32_t id : tokens) {
    if (id < 0 || static_cast<uint64_t>(id) >= config.vocab_size) {
      return malformed(path, "it holds a token id outside the vocabulary", cat("0 to ", config.vocab_size - 1),
                       cat(id));
    }
  }
  if (length() != 0) cache_ = std::move(fresh);
  tokens_ = std::move(tokens);
  forget_logits();
  return {};
}

}  // namespace finermoe
