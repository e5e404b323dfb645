// Cut and changed at random: an error or a model, never a crash.
#include <gtest/gtest.h>

#include <random>

#include "support.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

std::string single_file() {
  Json config = small_config(), header = tensors_of(parse_config(config));
  header["__metadata__"] = {{"finermoe.config.json", config.dump()}};
  return safetensors_file(header);
}

// Opens bytes of exactly their size on the heap, where a sanitizer sees every read beyond them; reads what it finds.
bool opens(const std::string& text) {
  std::unique_ptr<char[]> bytes(new char[text.size()]);
  std::copy(text.begin(), text.end(), bytes.get());
  auto checkpoint = Checkpoint::open_memory(bytes.get(), text.size(), options());
  if (!checkpoint.ok()) {
    EXPECT_FALSE(checkpoint.status().message().empty());
    return false;
  }
  unsigned sum = 0;
  for (const Tensor& tensor : (*checkpoint)->tensors()) {
    for (uint64_t i = 0; i < tensor.bytes(); i++) sum += std::to_integer<unsigned>(tensor.data[i]);
  }
  EXPECT_LT(sum, 1u << 30);
  return true;
}

TEST(Hostile, CutAtEveryByte) {
  std::string file = single_file();
  ASSERT_TRUE(opens(file));
  for (size_t size = 0; size < file.size(); size++) EXPECT_FALSE(opens(file.substr(0, size))) << size;
}

TEST(Hostile, BytesChanged) {
  std::string file = single_file();
  size_t header = file.size() - data_size(tensors_of(parse_config(small_config())));
  std::mt19937 random(1);
  constexpr std::string_view telling = "{}[]\",:0123456789-.eE\\ \n";
  int opened = 0;
  for (int i = 0; i < 5000; i++) {
    std::string changed = file;
    for (uint32_t n = random() % 4 + 1; n > 0; n--) {
      size_t at = random() % header;
      changed[at] = random() % 2 ? telling[random() % telling.size()] : static_cast<char>(random());
    }
    opened += opens(changed);
  }
  EXPECT_GT(opened, 0);  // white space, and digits of what nobody reads
  EXPECT_LT(opened, 2500);
}

TEST(Hostile, BytesMoved) {
  std::string file = single_file();
  std::mt19937 random(2);
  for (int i = 0; i < 2000; i++) {
    std::string changed = file;
    size_t at = 8 + random() % (file.size() - 8), n = random() % 40;
    if (random() % 2) {
      changed.erase(at, n);
    } else {
      changed.insert(at, file, random() % file.size(), n);
    }
    opens(changed);
  }
}

TEST(Hostile, ConfigChanged) {
  std::string text = small_config().dump();
  std::mt19937 random(3);
  for (int i = 0; i < 5000; i++) {
    std::string changed = text;
    for (uint32_t n = random() % 3 + 1; n > 0; n--) changed[random() % text.size()] = static_cast<char>(random());
    auto config = Config::parse(changed, "config.json");
    if (!config.ok()) continue;
    EXPECT_EQ(config->router.n_experts() % config->router.n_groups(), 0u);
    EXPECT_GT(count_parameters(*config).total, 0u);
  }
}

}  // namespace
}  // namespace finermoe
