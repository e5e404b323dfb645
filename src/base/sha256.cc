#include "base/sha256.h"

#include <openssl/evp.h>

#include <new>

namespace finermoe {
namespace {

// libcrypto's calls fail here only for want of memory.
void require(bool succeeded) {
  if (!succeeded) throw std::bad_alloc();
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() { require(context != nullptr); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() const {
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
