#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "../support/temporary_directory.h"
#include "base/json.h"
#include "base/sha256.h"

namespace finermoe {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(directory + "/" + name, std::ios::binary) << text;
    return directory + "/" + name;
  }
  const TemporaryDirectory temporary;
  const std::string directory = temporary.path;
};

TEST_F(Files, OpenAndRead) {
  auto file = File::open(write("a", std::string("x\0y", 3)));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_FALSE(file->is_directory());
  EXPECT_EQ(file->size(), 3u);
  EXPECT_EQ(*file->read_all(3), std::string("x\0y", 3));
  EXPECT_EQ(file->read_all(2).status().code(), FINERMOE_ERROR_FILE_UNREADABLE);
  std::byte bytes[4];
  EXPECT_TRUE(file->read(1, std::span(bytes, 2)).ok());
  EXPECT_EQ(bytes[1], std::byte{'y'});
  EXPECT_EQ(file->read(0, bytes).code(), FINERMOE_ERROR_FILE_CHANGED);
  EXPECT_NE(fcntl(file->descriptor(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(*File::open(write("empty", ""))->read_all(0), "");
}

TEST_F(Files, WhatCannotBeOpened) {
  EXPECT_EQ(File::open(directory + "/none").status().code(), FINERMOE_ERROR_FILE_NOT_FOUND);
  EXPECT_EQ(File::open(write("a", "") + "/b").status().code(), FINERMOE_ERROR_FILE_NOT_FOUND);
  EXPECT_EQ(File::open(std::string("a\0b", 3)).status().code(), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(File::open("/dev/null").status().code(), FINERMOE_ERROR_FILE_UNREADABLE);
  ASSERT_EQ(mkfifo((directory + "/pipe").c_str(), 0600), 0);
  EXPECT_EQ(File::open(directory + "/pipe").status().code(), FINERMOE_ERROR_FILE_UNREADABLE);
  EXPECT_EQ(File::duplicate(-1, "nothing").status().code(), FINERMOE_ERROR_FILE_UNREADABLE);
  EXPECT_EQ(File::open(directory)->read_all(10).status().code(), FINERMOE_ERROR_FILE_UNREADABLE);
}

TEST_F(Files, RelativeToADirectory) {
  write("b", "1");
  write("a", "2");
  auto open = File::open(directory);
  ASSERT_TRUE(open.ok());
  EXPECT_TRUE(open->is_directory());
  EXPECT_EQ(*open->list(), std::vector<std::string>({"a", "b"}));
  EXPECT_EQ(*open->list(), std::vector<std::string>({"a", "b"}));  // from the beginning again
  EXPECT_EQ(*open->open_at("b")->read_all(9), "1");
  EXPECT_EQ(open->open_at("c").status().code(), FINERMOE_ERROR_FILE_NOT_FOUND);
  for (const std::string& name : {std::string(".."), std::string("."), std::string(), std::string("/etc/passwd"),
                                  std::string("../x"), std::string("a\0b", 3)}) {
    EXPECT_EQ(open->open_at(name).status().code(), FINERMOE_ERROR_PATH) << name;
  }
}

TEST_F(Files, DuplicateLeavesTheCallersDescriptor) {
  int fd = ::open(write("a", "text").c_str(), O_RDONLY);
  {
    auto file = File::duplicate(fd, "a");
    EXPECT_EQ(*file->read_all(9), "text");
  }
  EXPECT_NE(fcntl(fd, F_GETFD), -1);
  close(fd);
}

TEST_F(Files, MapCopyAndBorrow) {
  std::string text(100000, 'a');
  text += "end";
  std::string path = write("a", text);
  auto account = std::make_shared<MemoryAccount>(0);
  auto mapped = FileBytes::map(std::move(*File::open(path)));
  uint64_t last = 0;
  auto progress = [&](uint64_t done) {
    last = done;
    return Status();
  };
  auto copied = FileBytes::copy(*File::open(path), account, progress);
  ASSERT_TRUE(mapped.ok() && copied.ok());
  EXPECT_EQ(last, text.size());
  EXPECT_EQ(account->used(), text.size());
  auto borrowed = FileBytes::borrow(text.data(), text.size(), "memory");
  EXPECT_EQ(borrowed->data(), reinterpret_cast<const std::byte*>(text.data()));
  for (const auto& bytes : {*mapped, *copied, borrowed}) {
    ASSERT_EQ(bytes->size(), text.size());
    bytes->will_read(5, 70000);
    bytes->map_by_small_pages(5, 70000);
    bytes->release(5, 99000);  // the pages come back by themselves
    EXPECT_EQ(std::memcmp(bytes->data(), text.data(), text.size()), 0);
    EXPECT_TRUE(bytes->check_unchanged().ok());
  }
  fs::resize_file(path, 50);
  Status changed = (*mapped)->check_unchanged();
  EXPECT_EQ(changed.code(), FINERMOE_ERROR_FILE_CHANGED);
  EXPECT_NE(changed.message().find("100003"), std::string::npos) << changed.message();
  EXPECT_TRUE((*copied)->check_unchanged().ok());
  auto stop = [](uint64_t) { return Status(FINERMOE_ERROR_CANCELLED, "stop"); };
  EXPECT_EQ(FileBytes::copy(*File::open(path), account, stop).status().code(), FINERMOE_ERROR_CANCELLED);
  EXPECT_EQ((*FileBytes::map(std::move(*File::open(write("empty", "")))))->size(), 0u);
}

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(text.substr(0, text.size() / 3))));
  EXPECT_EQ(hash.hex().size(), 64u);  // asking in between changes nothing
  hash.update(std::as_bytes(std::span(text.substr(text.size() / 3))));
  return hash.hex();
}

TEST(Sha256, PublishedVectors) {  // FIPS 180-4's examples
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Json, BoundedAndTheLastOfDuplicates) {
  constexpr Code code = FINERMOE_ERROR_CONFIG_MALFORMED;
  auto good = parse_json(R"({"a": [1, -2, 2.5, "\u00e9", true, null, {}], "b": {"a": []}})", "x", code);
  ASSERT_TRUE(good.ok()) << good.status().message();
  EXPECT_EQ(good->dump(), R"({"a":[1,-2,2.5,"é",true,null,{}],"b":{"a":[]}})");
  EXPECT_EQ(parse_json(R"({"a": {"c": 1}, "b": 1, "a": [{"d": 1, "d": 2}]})", "x", code)->dump(),
            R"({"a":[{"d":2}],"b":1})");
  for (const char* text : {"", "{", "[1,]", "nul", "1 2", "\"\xff\"", "1e999"}) {
    EXPECT_EQ(parse_json(text, "x", code).status().code(), code) << text;
  }
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']'), "x", code).ok());
  EXPECT_EQ(parse_json(std::string(65, '[') + std::string(65, ']'), "x", code).status().code(), code);
  EXPECT_EQ(parse_json(std::string(1000000, '['), "x", code).status().code(), code);
}

// Expected texts are those of Python's json.dumps; show() writes DEL as an escape too.
TEST(Json, IsWrittenAsPythonDoes) {
  Json value;
  value["text"] = "a\"\\\b\f\n\r\t\x01\x7f/é€😀";
  value["numbers"] = Json::array({0, -1, INT64_MIN, UINT64_MAX, 0.0, -0.5, 1e6, 1e15, 1e16, 1e-4, 1e-5, 0.1, 5e-324});
  value["empty"] = Json::array({Json::array(), Json::object(), Json(), true});
  EXPECT_EQ(value.dump(2), R"({
  "empty": [
    [],
    {},
    null,
    true
  ],
  "numbers": [
    0,
    -1,
    -9223372036854775808,
    18446744073709551615,
    0.0,
    -0.5,
    1000000.0,
    1000000000000000.0,
    1e+16,
    0.0001,
    1e-05,
    0.1,
    5e-324
  ],
  "text": "a\"\\\b\f\n\r\t\u0001)"
                           "\x7f"
                           R"(/é€😀"
})");
  EXPECT_EQ(value["text"].show(), R"("a\"\\\b\f\n\r\t\u0001\u007f/\u00e9\u20ac\ud83d\ude00")");
  EXPECT_EQ(Json("\xff\xc0\x80g\xed\xa0\x80").dump(), "\"\ufffd\ufffd\ufffdg\ufffd\ufffd\ufffd\"");
  EXPECT_EQ(Json("\xe2\x82\xf4\x90\x80\x80").dump(), "\"\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\"");
}

TEST(Json, ValuesAreReadByTypeAndName) {
  auto read = parse_json(R"({"a": {"b": [1, 2.0, -3, "x"]}, "c": 0})", "x", FINERMOE_ERROR_CONFIG_MALFORMED);
  ASSERT_TRUE(read.ok());
  const Json& list = std::as_const(*read)["a"]["b"];
  ASSERT_EQ(list.size(), 4u);
  EXPECT_TRUE(list[0].is_number_unsigned() && list[1].is_number_float() && list[2].is_number_integer());
  EXPECT_FALSE(list[2].is_number_unsigned());
  EXPECT_EQ(list[1], Json(2));
  EXPECT_EQ(list[2].get<double>(), -3.0);
  EXPECT_NE(list[3], Json(1));
  EXPECT_EQ(list[3], "x");
  EXPECT_EQ(read->find("d"), read->end());
  EXPECT_TRUE(std::as_const(*read)["d"]["e"].is_null());
  read->erase("a");
  EXPECT_EQ(read->dump(), R"({"c":0})");
}

}  // namespace
}  // namespace finermoe
