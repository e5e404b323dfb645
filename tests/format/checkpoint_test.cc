// Models as they lie on disk: directories, shards, single files, descriptors, memory.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "support.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

namespace fs = std::filesystem;

const std::string sharded = source_path("tests/data/shapes/dense-untied-sharded");

struct ShardedModel : TemporaryDirectory {
  ShardedModel() { fs::copy(sharded, path, fs::copy_options::recursive); }
  Json index() const { return Json::parse(read_file(*this / index_name)); }
  void write_index(const Json& index) const { write_file(*this / index_name, index.dump()); }
  static constexpr const char* index_name = "model.safetensors.index.json";
  static constexpr const char* second = "model-00002-of-00004.safetensors";
};

TEST(Checkpoint, EveryModel) {
  for (const char* root : {"tests/data/shapes", "examples/models"}) {
    for (const auto& entry : fs::directory_iterator(source_path(root))) {
      if (!entry.is_directory()) continue;
      auto checkpoint = open(entry.path().string());
      ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
      EXPECT_TRUE((*checkpoint)->check_unchanged().ok());
      Status status = for_each_tensor((*checkpoint)->config(), [&](const TensorSpec& spec) {
        const Tensor* tensor = (*checkpoint)->find(spec.name);
        EXPECT_NE(tensor, nullptr) << spec.name;
        EXPECT_EQ(tensor->name, spec.name);
        EXPECT_EQ(tensor->elements(), spec.elements());
        const FileBytes& file = *(*checkpoint)->files()[tensor->file];
        EXPECT_GE(tensor->data, file.data());
        EXPECT_LE(tensor->data + tensor->bytes(), file.data() + file.size());
        return Status();
      });
      EXPECT_TRUE(status.ok());
      EXPECT_EQ((*checkpoint)->find("no.such.tensor"), nullptr);
    }
  }
}

TEST(Checkpoint, CopyEqualsMapping) {
  auto mapped = open(sharded);
  ASSERT_TRUE(mapped.ok());
  Checkpoint::Options copying = options();
  copying.copy = true;
  uint64_t last = 0, total = 0;
  auto count = [](void* user, const char* phase, uint64_t done, uint64_t) -> int32_t {
    if (std::string_view(phase) == "copy") *static_cast<uint64_t*>(user) = done;
    return 0;
  };
  copying.progress.callback = count;
  copying.progress.user = &last;
  auto copied = Checkpoint::open(sharded, copying);
  ASSERT_TRUE(copied.ok()) << copied.status().message();
  for (const Tensor& tensor : (*mapped)->tensors()) {
    const Tensor* copy = (*copied)->find(tensor.name);
    ASSERT_NE(copy, nullptr);
    EXPECT_EQ(std::memcmp(tensor.data, copy->data, tensor.bytes()), 0) << tensor.name;
  }
  for (const auto& file : (*copied)->files()) total += file->size();
  EXPECT_EQ(last, total);
  EXPECT_GE(copying.account->used(), total);

  copying.account = std::make_shared<MemoryAccount>(10000);
  expect_error(Checkpoint::open(sharded, copying).status(), FINERMOE_ERROR_MEMORY_LIMIT, {"10000"});
  EXPECT_EQ(copying.account->used(), 0u);
}

TEST(Checkpoint, Cancelled) {
  Checkpoint::Options cancelled = options();
  auto flag = std::make_shared<CancelFlag>(true);
  cancelled.progress.cancel = flag;
  EXPECT_EQ(Checkpoint::open(sharded, cancelled).status().code(), FINERMOE_ERROR_CANCELLED);
}

TEST(Checkpoint, MissingFiles) {
  TemporaryDirectory directory;
  expect_error(open(directory / "nowhere").status(), FINERMOE_ERROR_FILE_NOT_FOUND, {"nowhere"});
  expect_error(open(directory.path).status(), FINERMOE_ERROR_FILE_NOT_FOUND, {"config.json"});
  write_file(directory / "config.json", small_config().dump());
  expect_error(open(directory.path).status(), FINERMOE_ERROR_FILE_NOT_FOUND, {"model.safetensors"});
  EXPECT_EQ(open(std::string("a\0b", 3)).status().code(), FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST(Checkpoint, UnreadableFiles) {
  TemporaryDirectory directory;
  write_file(directory / "config.json", small_config().dump());
  fs::create_directory(directory / "model.safetensors");
  expect_error(open(directory.path).status(), FINERMOE_ERROR_FILE_UNREADABLE, {"model.safetensors", "directory"});
  fs::remove(directory / "model.safetensors");
  ASSERT_EQ(mkfifo((directory / "model.safetensors").c_str(), 0600), 0);
  expect_error(open(directory.path).status(), FINERMOE_ERROR_FILE_UNREADABLE, {"model.safetensors"});
  fs::remove(directory / "config.json");
  fs::create_directory(directory / "config.json");
  expect_error(open(directory.path).status(), FINERMOE_ERROR_FILE_UNREADABLE, {"config.json"});
}

TEST(Checkpoint, LinkThatLeadsNowhere) {
  ShardedModel model;
  fs::remove(model / ShardedModel::second);
  fs::create_symlink(ShardedModel::second, model / ShardedModel::second);
  expect_error(open(model.path).status(), FINERMOE_ERROR_FILE_UNREADABLE, {ShardedModel::second});
}

TEST(Checkpoint, NoPermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  ShardedModel model;
  fs::permissions(model / ShardedModel::second, fs::perms::none);
  expect_error(open(model.path).status(), FINERMOE_ERROR_FILE_UNREADABLE, {ShardedModel::second});
}

TEST(Checkpoint, MissingShard) {
  ShardedModel model;
  fs::remove(model / ShardedModel::second);
  expect_error(open(model.path).status(), FINERMOE_ERROR_SHARD_NOT_FOUND, {ShardedModel::second});
}

TEST(Checkpoint, MalformedIndex) {
  ShardedModel model;
  for (const char* text :
       {"", "[]", "{}", "{\"weight_map\": []}", "{\"weight_map\": {}}", "{\"weight_map\": {\"a\": 3}}", "3",
        "{\"weight_map\": {\"a\": {}}}", "{\"weight_map\": \"a\"}", "{\"weight_map\": {\"a\": [\"b\"]}}",
        "{\"weight_map\": {\"a\": \"b\"}, \"weight_map\": {}}", "{\"metadata\": {\"weight_map\": {\"a\": \"b\"}}}",
        "{\"weight_map\": {\"a\": \"b\", \"a\": \"c\"}}"}) {
    write_file(model / ShardedModel::index_name, text);
    EXPECT_EQ(open(model.path).status().code(), FINERMOE_ERROR_INDEX_MALFORMED) << text;
  }
}

TEST(Checkpoint, IndexThatIsNotSo) {
  ShardedModel model;
  Json index = model.index(), elsewhere = index, invented = index;
  elsewhere["weight_map"]["lm_head.weight"] = ShardedModel::second;
  model.write_index(elsewhere);
  expect_error(open(model.path).status(), FINERMOE_ERROR_INDEX_MALFORMED, {"lm_head.weight", ShardedModel::second});
  invented["weight_map"]["no.such.tensor"] = ShardedModel::second;
  model.write_index(invented);
  EXPECT_TRUE(open(model.path).ok());  // the model does not need it
  invented["weight_map"]["rotary.inv_freq"] = "model-00005-of-00005.safetensors";
  model.write_index(invented);  // nor the file, which is not there
  auto checkpoint = open(model.path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ((*checkpoint)->files().size(), 4u);
  for (const char* first : {"a.safetensors", "z.safetensors"}) {  // whichever place it has among the files
    Json moved = index;
    moved["weight_map"]["no.such.tensor"] = first;
    model.write_index(moved);
    EXPECT_TRUE(open(model.path).ok()) << first;
    moved["weight_map"]["model.norm.weight"] = first;
    model.write_index(moved);
    expect_error(open(model.path).status(), FINERMOE_ERROR_SHARD_NOT_FOUND, {first});
  }
}

TEST(Checkpoint, IndexThatLeavesTheDirectory) {
  ShardedModel model;
  for (const std::string& name :
       {std::string("../model.safetensors"), std::string(".."), std::string("."), std::string("/etc/passwd"),
        std::string("a/b"), std::string(), std::string("a\0b", 3)}) {
    Json index = model.index();
    index["weight_map"]["lm_head.weight"] = name;
    model.write_index(index);
    EXPECT_EQ(open(model.path).status().code(), FINERMOE_ERROR_PATH) << name;
  }
}

TEST(Checkpoint, TensorInTwoShards) {
  ShardedModel model;
  fs::copy_file(model / ShardedModel::second, model / "copy.safetensors");
  Json index = model.index();
  index["weight_map"]["another.tensor"] = "copy.safetensors";
  model.write_index(index);
  EXPECT_EQ(open(model.path).status().code(), FINERMOE_ERROR_TENSOR_DUPLICATE);
}

TEST(Checkpoint, ShardTruncatedAfterOpening) {
  ShardedModel model;
  auto checkpoint = open(model.path);
  ASSERT_TRUE(checkpoint.ok());
  fs::resize_file(model / ShardedModel::second, 5000);
  expect_error((*checkpoint)->check_unchanged(), FINERMOE_ERROR_FILE_CHANGED, {ShardedModel::second, "5000"});
  // Names do not stand in the mapping.
  EXPECT_NE((*checkpoint)->find("model.layers.0.input_layernorm.weight"), nullptr);
}

TEST(Checkpoint, FileReplacedByRename) {
  ShardedModel model;
  auto checkpoint = open(model.path);
  ASSERT_TRUE(checkpoint.ok());
  const Tensor* tensor = (*checkpoint)->find("model.layers.0.input_layernorm.weight");
  std::string before(reinterpret_cast<const char*>(tensor->data), tensor->bytes());
  write_file(model / "new", "short");
  fs::rename(model / "new", model / ShardedModel::second);
  EXPECT_TRUE((*checkpoint)->check_unchanged().ok());
  EXPECT_EQ(std::memcmp(tensor->data, before.data(), before.size()), 0);
  // A directory that moves stays whole, too.
  std::string moved = model.path + "-moved";
  fs::rename(model.path, moved);
  EXPECT_TRUE((*checkpoint)->text("config.json")->has_value());
  fs::rename(moved, model.path);
}

TEST(Checkpoint, FromDescriptor) {
  int fd = ::open(sharded.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(fd, 0);
  auto checkpoint = Checkpoint::open_fd(fd, options());
  close(fd);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_TRUE((*checkpoint)->text("config.json")->has_value());
  EXPECT_EQ(Checkpoint::open_fd(-1, options()).status().code(), FINERMOE_ERROR_FILE_UNREADABLE);
}

std::string single_file(bool with_config = true) {
  Json config = small_config(), header = tensors_of(parse_config(config));
  header["__metadata__"] = {{"format", "pt"}, {"finermoe.tokenizer.json", "{\"a\": \"\xc3\xa9\"}"}};
  if (with_config) header["__metadata__"]["finermoe.config.json"] = config.dump();
  header["__metadata__"]["finermoe.generation_config.json"] = "{\"eos_token_id\": 3}";
  return safetensors_file(header);
}

TEST(Checkpoint, SingleFile) {
  TemporaryDirectory directory;
  write_file(directory / "m.safetensors", single_file());
  auto checkpoint = open(directory / "m.safetensors");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ((*checkpoint)->config().hidden_size, 4u);
  EXPECT_EQ((*checkpoint)->generation_defaults()->stop_ids, std::vector<int32_t>({3}));
  EXPECT_EQ(**(*checkpoint)->text("tokenizer.json"), "{\"a\": \"\xc3\xa9\"}");
  EXPECT_FALSE((*checkpoint)->text("chat_template.jinja")->has_value());
  EXPECT_EQ(*(*checkpoint)->text_names(), std::vector<std::string>({"generation_config.json", "tokenizer.json"}));
  int fd = ::open((directory / "m.safetensors").c_str(), O_RDONLY);
  auto by_descriptor = Checkpoint::open_fd(fd, options());
  close(fd);
  EXPECT_TRUE(by_descriptor.ok()) << by_descriptor.status().message();
  write_file(directory / "m.safetensors", single_file(false));
  expect_error(open(directory / "m.safetensors").status(), FINERMOE_ERROR_CONFIG_MISSING, {"finermoe.config.json"});
}

TEST(Checkpoint, FromMemory) {
  std::string bytes = single_file();
  auto checkpoint = Checkpoint::open_memory(bytes.data(), bytes.size(), options());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_TRUE((*checkpoint)->check_unchanged().ok());
  EXPECT_EQ((*checkpoint)->config().vocab_size, 5u);
  EXPECT_EQ(Checkpoint::open_memory(bytes.data(), 7, options()).status().code(), FINERMOE_ERROR_HEADER_TRUNCATED);
  EXPECT_EQ(Checkpoint::open_memory(nullptr, 0, options()).status().code(), FINERMOE_ERROR_HEADER_TRUNCATED);
}

TEST(Checkpoint, TextsOfADirectory) {
  auto checkpoint = open(source_path("examples/models/tiny-wordnet-finermoe"));
  ASSERT_TRUE(checkpoint.ok());
  auto names = (*checkpoint)->text_names();
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(*names, std::vector<std::string>({"generation_config.json", "tokenizer.json", "tokenizer_config.json"}));
  EXPECT_EQ(**(*checkpoint)->text("tokenizer.json"),
            read_file(source_path("examples/models/tiny-wordnet-finermoe/tokenizer.json")));
  EXPECT_EQ((*checkpoint)->text("../NOTICE").status().code(), FINERMOE_ERROR_PATH);
}

TEST(ReadModelText, FromEveryKindOfPath) {
  TemporaryDirectory directory;
  write_file(directory / "tokenizer.json", "T");
  write_file(directory / "my-model.json", "C");
  write_file(directory / "m.safetensors", single_file());
  auto read = [&](const std::string& path, const char* name) {
    auto text = read_model_text(path, name);
    EXPECT_TRUE(text.ok()) << text.status().message();
    return text.ok() ? *text : std::nullopt;
  };
  EXPECT_EQ(read(directory.path, "tokenizer.json"), "T");
  EXPECT_EQ(read(directory.path, "config.json"), std::nullopt);
  EXPECT_EQ(read(directory / "tokenizer.json", "tokenizer.json"), "T");
  EXPECT_EQ(read(directory / "tokenizer.json", "tokenizer_config.json"), std::nullopt);
  EXPECT_EQ(read(directory / "tokenizer.json", "config.json"), std::nullopt);
  EXPECT_EQ(read(directory / "my-model.json", "config.json"), "C");
  EXPECT_EQ(read(directory / "m.safetensors", "tokenizer.json"), "{\"a\": \"\xc3\xa9\"}");
  EXPECT_EQ(read(directory / "m.safetensors", "chat_template.jinja"), std::nullopt);
  EXPECT_EQ(read_model_text(directory / "none", "config.json").status().code(), FINERMOE_ERROR_FILE_NOT_FOUND);
}

// Files that are no safetensors file, given as a model and inside of its directory.
TEST(Checkpoint, OtherFilesAreRecognised) {
  using namespace std::string_literals;
  const std::tuple<std::string, const char*, const char*> others[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n", "Git LFS", "git lfs pull"},
      {"GGUF\3\0\0\0\x7b\0\0\0\0\0\0\0"s + std::string(200, 'x'), "GGUF", "safetensors"},
      {"PK\3\4\0\0\0\0\0\0"s + std::string(200, '\0'), "PyTorch", "save_pretrained"},
      {"\x80\2}q\0X\4\0\0\0"s + std::string(200, 'x'), "pickle", "save_pretrained"},
      {"\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M"s, "pickle", "save_pretrained"},
      {"<!DOCTYPE html>\n<html lang=\"en\">", "HTML", "download"},
      {"\xef\xbb\xbf \n<HTML><body>Sign in</body></HTML>", "HTML", "download"},
      {"\x89HDF\r\n\x1a\n"s + std::string(100, '\0'), "HDF5", "safetensors"},
      {"\x1f\x8b\x08\0\0\0\0\0\0\3"s, "gzip", "unpack"},
      {"Entry not found", "failed download", "again"}};
  for (const auto& [bytes, what, remedy] : others) {
    TemporaryDirectory directory;
    write_file(directory / "model", bytes);
    expect_error(open(directory / "model").status(), FINERMOE_ERROR_HEADER_MALFORMED, {what, remedy});
    expect_error(Checkpoint::open_memory(bytes.data(), bytes.size(), options()).status(),
                 FINERMOE_ERROR_HEADER_MALFORMED, {what, remedy});
    write_file(directory / "config.json", small_config().dump());
    write_file(directory / "model.safetensors", bytes);
    expect_error(open(directory.path).status(), FINERMOE_ERROR_HEADER_MALFORMED, {"model.safetensors", what, remedy});
    // Texts that are not JSON, too.
    fs::remove(directory / "model.safetensors");
    write_file(directory / "model.safetensors.index.json", bytes);
    expect_error(open(directory.path).status(), FINERMOE_ERROR_INDEX_MALFORMED, {"index.json", what, remedy});
    write_file(directory / "config.json", bytes);
    expect_error(open(directory.path).status(), FINERMOE_ERROR_CONFIG_MALFORMED, {"config.json", what, remedy});
  }
}

// A header whose length looks like another file's beginning is a header all the same.
TEST(Checkpoint, HeaderOfALengthThatLooksLikeAnotherFile) {
  const Json header = tensors_of(parse_config(small_config()));
  std::string text = header.dump();
  ASSERT_LT(text.size(), 0x8b1fu);
  text.append(0x8b1f - text.size(), ' ');  // a gzip archive begins with 1f 8b
  TemporaryDirectory directory;
  write_file(directory / "config.json", small_config().dump());
  const uint64_t size = text.size();
  write_file(directory / "model.safetensors", std::string(reinterpret_cast<const char*>(&size), sizeof size) + text +
                                                  std::string(data_size(header), '\0'));
  EXPECT_TRUE(open(directory.path).ok()) << open(directory.path).status().message();
}

TEST(Checkpoint, OtherDirectoriesAreRecognised) {
  for (const auto& [name, remedy] : {std::pair{"pytorch_model.bin", "save_pretrained"},
                                     {"model-q4.gguf", "GGUF"},
                                     {"consolidated.00.pth", "save_pretrained"},
                                     {"tf_model.h5", "HDF5"},
                                     {"weights.safetensors", "model.safetensors"}}) {
    TemporaryDirectory directory;
    write_file(directory / name, "");
    expect_error(open(directory.path).status(), FINERMOE_ERROR_FILE_NOT_FOUND, {"config.json", name, remedy});
    write_file(directory / "config.json", small_config().dump());
    expect_error(open(directory.path).status(), FINERMOE_ERROR_FILE_NOT_FOUND, {"model.safetensors", name, remedy});
  }
}

TEST(Checkpoint, Adapters) {
  const Json lora = {{"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                      {{"dtype", "F32"}, {"shape", {1, 4}}, {"data_offsets", {0, 16}}}}};
  TemporaryDirectory directory;
  write_file(directory / "adapter_model.safetensors", safetensors_file(lora));
  expect_error(open(directory / "adapter_model.safetensors").status(), FINERMOE_ERROR_UNSUPPORTED,
               {"LoRA", "merge_and_unload"});
  write_file(directory / "adapter_config.json", "{}");
  expect_error(open(directory.path).status(), FINERMOE_ERROR_UNSUPPORTED, {"LoRA", "merge_and_unload"});
  write_file(directory / "config.json", small_config().dump());
  expect_error(open(directory.path).status(), FINERMOE_ERROR_UNSUPPORTED, {"LoRA", "merge_and_unload"});
  fs::remove(directory / "adapter_config.json");
  write_file(directory / "model.safetensors", safetensors_file(lora));
  expect_error(open(directory.path).status(), FINERMOE_ERROR_UNSUPPORTED, {"model.safetensors", "LoRA"});
}

}  // namespace
}  // namespace finermoe
