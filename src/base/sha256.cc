#include "base/sha256.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <new>

namespace finermoe {
namespace {

// The libcrypto calls used here fail only when memory runs out.
void require(bool succeeded) {
  if (!succeeded) throw std::bad_alloc();
}

// libcrypto records failures in the thread's error queue, where the host would take them for its own: they are removed.
struct OwnErrors {
  OwnErrors() { ERR_set_mark(); }
  ~OwnErrors() { ERR_pop_to_mark(); }
};

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = nullptr;
  State() {
    const OwnErrors errors;
    context = EVP_MD_CTX_new();
    require(context != nullptr);
  }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  const OwnErrors errors;
  require(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  const OwnErrors errors;
  require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() const {
  const OwnErrors errors;
  State copy;  // finishing ends a context
  require(EVP_MD_CTX_copy_ex(copy.context, state_->context) == 1);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  require(EVP_DigestFinal_ex(copy.context, digest, &size) == 1);
  std::string text;
  for (unsigned i = 0; i < size; i++) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

}  // namespace finermoe
