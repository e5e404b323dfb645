// Whatever is wrong with a file that a model can do without is the error of the calls that need it, and of no others.
#include <sys/stat.h>

#include <functional>

#include "../support/golden.h"
#include "../support/handles.h"
#include "../support/safetensors.h"

namespace {

using files::Directory;

constexpr const char* tokenizer_name = "tokenizer.json";
constexpr const char* tokenizer_config_name = "tokenizer_config.json";
constexpr const char* template_name = "chat_template.jinja";
constexpr const char* generation_name = "generation_config.json";

// The dense example with its chat template in a file of its own, as newer versions of transformers write it.
struct Model : Directory {
  Model() {
    const std::string source = golden::trained("tiny-wordnet-dense");
    for (const char* name : {"config.json", generation_name, tokenizer_name, tokenizer_config_name}) {
      files::fs::copy_file(source + "/" + name, *this / name);
    }
    files::fs::create_symlink(source + "/model.safetensors", *this / "model.safetensors");
    auto config = files::Json::parse(files::read(*this / tokenizer_config_name));
    files::write(*this / template_name, config["chat_template"].get<std::string>());
  }
};

struct Fault {
  const char* name;
  bool in_the_text;  // the file can be read
  std::function<void(const std::string& path)> make;
};

std::vector<Fault> all_faults() {
  const auto text = [](const char* name, std::string content) {
    return Fault{name, true, [content](const std::string& path) { files::write(path, content); }};
  };
  return {text("cut off", "{\"a\": "),
          text("a list", "[1, 2]"),
          text("a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
          text("a web page", "<!doctype html><html></html>"),
          text("not UTF-8", "{\"a\": \"\xff\"}"),
          {"a directory", false, [](const std::string& path) { files::fs::create_directory(path); }},
          {"a link to itself", false, [](const std::string& path) { files::fs::create_symlink(path, path); }},
          {"a pipe", false, [](const std::string& path) { EXPECT_EQ(mkfifo(path.c_str(), 0600), 0); }},
          {"too large", false, [](const std::string& path) {
             files::write(path, "");
             files::fs::resize_file(path, uint64_t{300} << 20);  // a hole: nothing is written
           }}};
}

using UpcycleOptions = std::unique_ptr<finermoe_upcycle_options, FreeWith<finermoe_upcycle_options_free>>;

Failure upcycle(const std::string& source, const std::string& out) {
  auto options =
      make<UpcycleOptions>([](auto** made, auto** e) { return finermoe_upcycle_options_create(nullptr, made, e); });
  EXPECT_DONE(finermoe_upcycle_options_set_shape(options.get(), 2, 1, 2, 1, 1, e));
  return failure_of(
      [&](auto** e) { return finermoe_upcycle_run(source.c_str(), out.c_str(), options.get(), nullptr, e); });
}

// Calls that need no text and no defaults.
void expect_the_rest_works(const Model& model) {
  auto config =
      make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open(model.path.c_str(), out, e); });
  finermoe_plan plan{};
  plan.struct_size = sizeof plan;
  EXPECT_DONE(finermoe_plan_compute(config.get(), nullptr, &plan, e));
  auto opened = open_model(model.path);
  auto session = open_session(opened.get(), 64);
  auto options = generation_options(nullptr);
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 3, e));
  EXPECT_EQ(run_out(generate(session.get(), options.get(), {5, 6, 7}).get()).ids.size(), 3u);
  const Directory out;
  EXPECT_DONE(finermoe_quantize_run(model.path.c_str(), (out / "q8").c_str(), nullptr, nullptr, e));
  EXPECT_EQ(upcycle(model.path, out / "moe").code, FINERMOE_OK);
  EXPECT_TRUE(open_model(out / "q8") && open_model(out / "moe"));
}

struct Calls {
  explicit Calls(const Model& files) : model(open_model(files.path)), session(open_session(model.get(), 256)) {
    const auto code = [this](finermoe_error** e) {
      finermoe_generation_options* made = nullptr;
      const int32_t result = finermoe_generation_options_create(model.get(), &made, e);
      finermoe_generation_options_free(made);
      return result;
    };
    defaults = failure_of(code);
    const int32_t ids[] = {5, 6, 7};
    from_ids = created(
        [&](auto** made, auto** e) { return finermoe_generation_create(session.get(), nullptr, ids, 3, made, e); });
    auto options = generation_options(nullptr);
    from_text = created([&](auto** made, auto** e) {
      return finermoe_generation_create_text(session.get(), options.get(), "a word", 6, 0, made, e);
    });
    auto chat = make<ChatHandle>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
    EXPECT_DONE(finermoe_chat_add(chat.get(), "user", "a word", 6, e));
    from_chat = created([&](auto** made, auto** e) {
      return finermoe_generation_create_chat(session.get(), options.get(), chat.get(), 0, made, e);
    });
    EXPECT_DONE(finermoe_generation_options_add_stop_string(options.get(), "x", 1, e));
    with_stop_string = created([&](auto** made, auto** e) {
      return finermoe_generation_create(session.get(), options.get(), ids, 3, made, e);
    });
    tokenizer = failure_of([&](auto** e) {
      finermoe_tokenizer* made = nullptr;
      const int32_t result = finermoe_tokenizer_open(files.path.c_str(), &made, e);
      finermoe_tokenizer_free(made);
      return result;
    });
  }

  ModelHandle model;
  SessionHandle session;
  Failure defaults, from_ids, from_text, from_chat, with_stop_string, tokenizer;

 private:
  template <class Create>
  static Failure created(Create&& create) {
    return failure_of([&](finermoe_error** e) {
      finermoe_generation* made = nullptr;
      const int32_t result = create(&made, e);
      finermoe_generation_free(made);
      return result;
    });
  }
};

// Says what is wrong with which file.
void expect_fails(const Failure& failure, const char* file) {
  EXPECT_NE(failure.code, FINERMOE_OK);
  EXPECT_NE(failure.message.find(file), std::string::npos) << failure.message;
}
void expect_works(const Failure& failure) { EXPECT_EQ(failure.code, FINERMOE_OK) << failure.message; }

TEST(OptionalFiles, EveryFaultOfEveryFile) {
  for (const char* name : {tokenizer_name, tokenizer_config_name, template_name, generation_name}) {
    for (const Fault& fault : all_faults()) {
      SCOPED_TRACE(std::string(name) + ": " + fault.name);
      const Model files;
      files::fs::remove(files / name);
      fault.make(files / name);
      expect_the_rest_works(files);
      const Calls calls(files);
      if (name == generation_name) {
        expect_fails(calls.defaults, name);
        expect_fails(calls.from_ids, name);
      } else {
        expect_works(calls.defaults);
        expect_works(calls.from_ids);
      }
      if (name == tokenizer_name) {
        for (const Failure* failure : {&calls.from_text, &calls.from_chat, &calls.with_stop_string, &calls.tokenizer}) {
          expect_fails(*failure, name);
        }
      } else {
        expect_works(calls.from_text);
        expect_works(calls.with_stop_string);
        expect_works(calls.tokenizer);
      }
      if (name == template_name) {
        EXPECT_NE(calls.from_chat.code, FINERMOE_OK);
        EXPECT_NE(calls.from_chat.message.find("template"), std::string::npos) << calls.from_chat.message;
        if (!fault.in_the_text) expect_fails(calls.from_chat, name);
      } else if (name != tokenizer_name) {
        expect_works(calls.from_chat);
      }
    }
  }
}

// Without a file of its own the chat template stands in tokenizer_config.json.
TEST(OptionalFiles, TheConfigurationThatHoldsTheTemplate) {
  for (const Fault& fault : all_faults()) {
    SCOPED_TRACE(fault.name);
    const Model files;
    files::fs::remove(files / template_name);
    files::fs::remove(files / tokenizer_config_name);
    fault.make(files / tokenizer_config_name);
    const Calls calls(files);
    expect_fails(calls.from_chat, tokenizer_config_name);
    expect_works(calls.from_text);
    expect_works(calls.tokenizer);
  }
}

// What can be read is carried over as it is, for what it is worth; what cannot is left behind.
TEST(OptionalFiles, WritersCarryWhatCanBeRead) {
  const Model files;
  const std::string broken = "{\"top_p\": 1.1}";
  files::write(files / generation_name, broken);
  files::fs::remove(files / tokenizer_name);
  files::fs::create_directory(files / tokenizer_name);
  files::fs::create_directory(files / "LICENSES");
  const Directory out;
  for (const char* name : {"q8", "q8.safetensors"}) {
    EXPECT_DONE(finermoe_quantize_run(files.path.c_str(), (out / name).c_str(), nullptr, nullptr, e));
    auto model = open_model(out / name);
    const Failure failure = failure_of([&](finermoe_error** e) {
      finermoe_generation_options* made = nullptr;
      return finermoe_generation_options_create(model.get(), &made, e);
    });
    EXPECT_EQ(failure.code, FINERMOE_ERROR_CONFIG_VALUE);
    EXPECT_NE(failure.message.find("top_p"), std::string::npos) << failure.message;
    EXPECT_NE(failure.message.find("1.1"), std::string::npos) << failure.message;
  }
  EXPECT_EQ(files::read(out / "q8/generation_config.json"), broken);
  EXPECT_FALSE(files::fs::exists(out / "q8/tokenizer.json"));
}

TEST(OptionalFiles, TheLogHearsOfATokenizerThatCannotBeUsed) {
  const Model files;
  files::write(files / tokenizer_name, "{");
  std::vector<std::string> warnings;
  auto options = runtime_options();
  EXPECT_DONE(finermoe_runtime_options_set_log(
      options.get(),
      [](void* user, int32_t level, const char* message) {
        if (level == 2) static_cast<std::vector<std::string>*>(user)->push_back(message);
      },
      &warnings, e));
  auto runtime =
      make<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_create(options.get(), out, e); });
  auto model = open_model(files.path, runtime.get());
  EXPECT_TRUE(warnings.empty());
  auto session = open_session(model.get(), 64);
  auto neutral = generation_options(nullptr);
  for (int i = 0; i < 2; i++) generate(session.get(), neutral.get(), {5, 6});
  ASSERT_EQ(warnings.size(), 1u);  // once
  EXPECT_NE(warnings[0].find(tokenizer_name), std::string::npos) << warnings[0];
}

TEST(OptionalFiles, OptionsWithoutAModelAreNeutral) {
  auto options = generation_options(nullptr);
  finermoe_generation_options_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_generation_options_get_info(options.get(), &info, e));
  EXPECT_EQ(info.temperature, 0);  // greedy
  EXPECT_EQ(info.top_k, 0u);
  EXPECT_EQ(info.top_p, 1);
  EXPECT_EQ(info.min_p, 0);
  EXPECT_EQ(info.typical_p, 1);
  EXPECT_EQ(info.repetition_penalty, 1);
  EXPECT_EQ(info.max_tokens, 0u);
  EXPECT_EQ(info.min_tokens, 0u);
  EXPECT_EQ(info.n_stop_tokens, 0u);
  EXPECT_DONE(finermoe_generation_options_add_stop_token(options.get(), 2'000'000'000, e));
  EXPECT_EQ(finermoe_generation_options_add_stop_token(options.get(), -1, nullptr), FINERMOE_ERROR_TOKEN_OUT_OF_RANGE);
}

// Of generation_config.json as other tools write it.
TEST(OptionalFiles, MinusOneIsOffOrNone) {
  const auto info_of = [](const char* text) {
    const Model files;
    files::write(files / generation_name, text);
    auto model = open_model(files.path);
    auto options = generation_options(model.get());
    finermoe_generation_options_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_generation_options_get_info(options.get(), &info, e));
    auto session = open_session(model.get(), 64);
    generate(session.get(), nullptr, {5, 6, 7});  // NULL options are the same
    return info;
  };
  const auto top_k = info_of(R"({"do_sample": true, "top_k": -1, "temperature": 0.7, "eos_token_id": [4066, 4064]})");
  EXPECT_EQ(top_k.top_k, 0u);
  EXPECT_EQ(top_k.temperature, 0.7);
  EXPECT_EQ(top_k.n_stop_tokens, 2u);
  EXPECT_EQ(info_of(R"({"eos_token_id": -1})").n_stop_tokens, 0u);
}

}  // namespace
