#include "base/sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace finermoe {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string sha256(const std::string& text) {
  Sha256 hash;
  hash.update(bytes_of(text));
  return hash.hex();
}

// The examples of FIPS 180-2.
TEST(Sha256, Examples) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesDoNotMatter) {
  const std::string text(1000, 'x');
  Sha256 hash;
  for (size_t at = 0; at < text.size(); at += 37) hash.update(bytes_of(text.substr(at, 37)));
  EXPECT_EQ(hash.hex(), sha256(text));
}

TEST(Sha256, GoesOnAfterAnAnswer) {
  Sha256 hash;
  hash.update(bytes_of("a"));
  EXPECT_EQ(hash.hex(), sha256("a"));
  EXPECT_EQ(hash.hex(), sha256("a"));
  hash.update(bytes_of("bc"));
  EXPECT_EQ(hash.hex(), sha256("abc"));
}

}  // namespace
}  // namespace finermoe
