// Saving and restoring sessions. The layout is docs/format.md, "Session files".
#include <algorithm>
#include <array>
#include <cstring>

#include "base/atomic_file.h"
#include "base/sha256.h"
#include "runtime/session.h"

namespace finermoe {
namespace {

constexpr std::array<char, 8> magic = {'F', 'R', 'M', 'O', 'E', 'S', 'E', 'S'};
constexpr uint32_t version = 1;

// All integers little-endian. After it: token ids int32 [length], then per layer keys [n_kv_heads, length] and values
// of the same shape, each an individual vector (KvShape::vector_bytes) of the cache's type, then the SHA-256 of
// everything before it.
struct Header {
  std::array<char, 8> file_magic = magic;
  uint32_t file_version = version;
  int32_t kv_dtype = 0;
  uint64_t length = 0;
  std::array<char, 64> fingerprint{};  // of the model, hexadecimal
};
static_assert(sizeof(Header) == 88);
constexpr size_t digest_size = 64;  // hexadecimal
constexpr size_t at_once = 128;     // vectors of the cache per system call

Status malformed(const std::string& name, std::string_view what, std::string expected, std::string found) {
  return Status(FINERMOE_ERROR_SESSION_MALFORMED, format_text(name, " is not a usable saved session: ", what),
                std::move(expected), std::move(found));
}

uint64_t bytes_of_tokens(uint64_t n, const Session& session) {
  const KvShape& shape = session.cache().shape();
  return n * (sizeof(int32_t) + shape.n_heads() * shape.vector_bytes());
}

std::span<const std::byte> bytes_of(const void* data, size_t size) {
  return {static_cast<const std::byte*>(data), size};
}

}  // namespace

// `sink` receives the file, part by part. All tokens must be computed.
Status Session::write(FunctionRef<Status(std::span<const std::byte>)> sink) const {
  FM_ASSIGN(const std::string fingerprint, model_->fingerprint());
  const KvShape& shape = cache_->shape();
  std::vector<std::byte> vectors(at_once * shape.vector_bytes());  // before anything is written
  Header header;
  header.kv_dtype = static_cast<int32_t>(options_.kv_dtype);
  header.length = length();
  std::copy_n(fingerprint.begin(), header.fingerprint.size(), header.fingerprint.begin());

  Sha256 hash;
  auto write = [&](std::span<const std::byte> part) {
    hash.update(part);
    return sink(part);
  };
  FM_TRY(write(bytes_of(&header, sizeof header)));
  FM_TRY(write(bytes_of(tokens_.data(), tokens_.size() * sizeof(int32_t))));
  for (uint64_t head = 0; head < shape.n_heads(); head++) {
    for (size_t begin = 0; begin < length(); begin += at_once) {
      const size_t n = std::min(at_once, length() - begin);
      const std::span<std::byte> some = std::span(vectors).first(n * shape.vector_bytes());
      FM_TRY(cache_->read(head, begin, n, some));
      FM_TRY(write(some));
    }
  }
  const std::string digest = hash.hex();
  return sink(bytes_of(digest.data(), digest.size()));
}

Status Session::save(const std::string& path) {
  FM_TRY(compute_all());
  FM_ASSIGN(auto file, AtomicFile::create(path));
  FM_TRY(write([&](std::span<const std::byte> part) { return file.write(part); }));
  return file.commit();
}

uint64_t Session::saved_bytes() const { return sizeof(Header) + bytes_of_tokens(length(), *this) + digest_size; }

Status Session::save(std::span<std::byte> out) {
  FM_TRY(compute_all());
  return write([&](std::span<const std::byte> part) -> Status {
    std::copy(part.begin(), part.end(), out.begin());
    out = out.subspan(part.size());
    return {};
  });
}

// A saved session, in a file or in memory, hashed as it is read up to its digest. A file is read, not mapped: if
// another process truncates it meanwhile, reading fails with an error, where a mapping would raise SIGBUS.
class Session::Saved {
 public:
  using Read = FunctionRef<Status(uint64_t offset, std::span<std::byte> out)>;
  Saved(std::string name, uint64_t size, Read read) : name_(std::move(name)), size_(size), read_(read) {}

  const std::string& name() const { return name_; }
  uint64_t size() const { return size_; }
  Status read(std::span<std::byte> out) {
    FM_TRY(read_(offset_, out));
    hash_.update(out);
    offset_ += out.size();
    return {};
  }
  // Reads the rest up to the digest, and checks that against what was read.
  Status finish() {
    std::array<std::byte, 65536> skipped;
    for (const uint64_t end = size_ - digest_size; offset_ < end;) {
      FM_TRY(read(std::span(skipped).first(std::min<uint64_t>(skipped.size(), end - offset_))));
    }
    std::array<char, digest_size> stored;
    FM_TRY(read_(offset_, std::as_writable_bytes(std::span(stored))));
    const std::string digest = hash_.hex();
    if (std::equal(stored.begin(), stored.end(), digest.begin(), digest.end())) return {};
    return malformed(name_, "its checksum does not match: it is damaged or cut short", digest, "another SHA-256");
  }

 private:
  std::string name_;  // for messages
  uint64_t size_;
  Read read_;
  Sha256 hash_;
  uint64_t offset_ = 0;
};

namespace {

// Whether this could be the beginning of a file that a session wrote.
Status check_fit(const Header& header, const std::string& name, uint64_t size, const std::string& fingerprint,
                 const Session& session) {
  if (!std::equal(fingerprint.begin(), fingerprint.end(), header.fingerprint.begin(), header.fingerprint.end())) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, format_text(name, " was saved from another model"), fingerprint,
                  std::string(header.fingerprint.data(), header.fingerprint.size()));
  }
  const auto dtype = static_cast<int32_t>(session.options().kv_dtype);
  if (header.kv_dtype != dtype) {
    return Status(FINERMOE_ERROR_SESSION_MISMATCH, format_text(name, " was saved with another type of KV cache"),
                  format_text("dtype ", dtype), format_text("dtype ", header.kv_dtype));
  }
  if (header.length > session.capacity()) {
    return Status(FINERMOE_ERROR_CONTEXT_LENGTH, format_text(name, " holds more tokens than this session can"),
                  format_text("at most ", session.capacity()), format_text(header.length));
  }
  const uint64_t expected = sizeof header + bytes_of_tokens(header.length, session) + digest_size;
  if (size != expected) {
    return malformed(name, "its size does not follow from its length", format_text(expected, " bytes"),
                     format_text(size, " bytes"));
  }
  return {};
}

}  // namespace

Status Session::read(Saved& saved) {
  const std::string& name = saved.name();
  if (saved.size() < sizeof(Header) + digest_size) {
    return malformed(name, "it is too short", format_text("at least ", sizeof(Header) + digest_size, " bytes"),
                     format_text(saved.size(), " bytes"));
  }
  Header header;
  FM_TRY(saved.read(std::as_writable_bytes(std::span(&header, 1))));
  if (header.file_magic != magic) return malformed(name, "it does not begin as one", "FRMOESES", "other bytes");
  if (header.file_version != version) {
    return malformed(name, "it has another version", format_text(version), format_text(header.file_version));
  }
  FM_ASSIGN(const std::string fingerprint, model_->fingerprint());
  if (Status unfit = check_fit(header, name, saved.size(), fingerprint, *this); !unfit.ok()) {
    FM_TRY(saved.finish());  // damage is the more helpful explanation
    return unfit;
  }
  // In place only if there is nothing to lose.
  std::unique_ptr<KvCache> fresh;
  if (length() != 0) {
    FM_ASSIGN(fresh, make_cache(capacity(), "a second KV cache, to restore into"));
  }
  drop_ahead();
  KvCache& cache = fresh ? *fresh : *cache_;

  std::vector<int32_t> tokens(header.length);
  FM_TRY(saved.read(std::as_writable_bytes(std::span(tokens))));
  const KvShape& shape = cache.shape();
  std::vector<std::byte> vectors(at_once * shape.vector_bytes());
  for (uint64_t head = 0; head < shape.n_heads(); head++) {
    for (size_t begin = 0; begin < header.length; begin += at_once) {
      const size_t n = std::min<size_t>(at_once, header.length - begin);
      const std::span<std::byte> some = std::span(vectors).first(n * shape.vector_bytes());
      FM_TRY(saved.read(some));
      FM_TRY(cache.write(head, begin, n, some));
    }
  }
  FM_TRY(saved.finish());
  const uint64_t vocab_size = model_->config().vocab_size;
  for (const int32_t id : tokens) {
    if (id < 0 || static_cast<uint64_t>(id) >= vocab_size) {
      return malformed(name, "it holds a token id outside the vocabulary", format_text("0 to ", vocab_size - 1),
                       format_text(id));
    }
  }
  if (fresh) cache_ = std::move(fresh);
  tokens_ = std::move(tokens);
  n_computed_ = length();
  changed();
  forget_rows();
  return {};
}

Status Session::restore(const std::string& path) {
  FM_ASSIGN(const File file, File::open(path));
  if (file.is_directory()) return Status(FINERMOE_ERROR_FILE_UNREADABLE, format_text(path, " is a directory"));
  const auto read_file = [&](uint64_t offset, std::span<std::byte> out) { return file.read(offset, out); };
  Saved saved(path, file.size(), read_file);
  return read(saved);
}

Status Session::restore(std::span<const std::byte> data) {
  const auto read_memory = [&](uint64_t offset, std::span<std::byte> out) -> Status {
    std::copy_n(data.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  };
  Saved saved("the data", data.size(), read_memory);
  return read(saved);
}

}  // namespace finermoe
