// Kinds of rows: writers and checks.
#include <span>

#include "base/sha256.h"
#include "runner.h"

namespace fs = std::filesystem;

namespace {

using WriterOptions = std::unique_ptr<finermoe_writer_options, FreeWith<finermoe_writer_options_free>>;
using UpcycleOptions = std::unique_ptr<finermoe_upcycle_options, FreeWith<finermoe_upcycle_options_free>>;
using QuantizeOptions = std::unique_ptr<finermoe_quantize_options, FreeWith<finermoe_quantize_options_free>>;
using VerificationHandle = std::unique_ptr<finermoe_verification, FreeWith<finermoe_verification_free>>;

WriterOptions writer_options(const Json& row = Json::object()) {
  auto options = create<WriterOptions>([](auto** out, auto** e) { return finermoe_writer_options_create(out, e); });
  if (row.contains("seed")) {
    call([&](auto** e) { return finermoe_writer_options_set_seed(options.get(), row["seed"], e); });
  }
  return options;
}
int32_t dtype_named(const std::string& name) {
  static const std::map<std::string, int32_t> dtypes{{"f32", FINERMOE_DTYPE_F32},   {"f16", FINERMOE_DTYPE_F16},
                                                     {"bf16", FINERMOE_DTYPE_BF16}, {"q8", FINERMOE_DTYPE_Q8},
                                                     {"q4", FINERMOE_DTYPE_Q4},     {"source", -1}};
  return dtypes.at(name);
}
Json sha256_of(const fs::path& folder) {
  const std::string bytes = file_bytes(folder / "model.safetensors");
  finermoe::Sha256 sum;
  sum.update(std::as_bytes(std::span(bytes)));
  return {{"sha256", sum.hex()}};
}

UpcycleOptions upcycle_options(const Json& row) {
  const std::string preset = row["preset"];
  auto options = create<UpcycleOptions>(
      [&](auto** out, auto** e) { return finermoe_upcycle_options_create(preset.c_str(), out, e); });
  const Json& set = row["options"];
  const auto size = [&](const char* name) { return set.value(name, size_t{0}); };
  call([&](auto** e) {
    return finermoe_upcycle_options_set_shape(options.get(), size("g_i"), size("r_i"), size("g_o"), size("r_o"),
                                              size("t_i"), e);
  });
  const auto maybe = [&](const char* name, auto setter) {
    if (set.contains(name)) call([&](auto** e) { return setter(options.get(), set[name], e); });
  };
  maybe("shared_expert", finermoe_upcycle_options_set_shared_expert);
  maybe("concat_proj", [](auto* to, const std::string& name, auto** e) {
    const int32_t value = name == "none"     ? FINERMOE_CONCAT_PROJ_NONE
                          : name == "normal" ? FINERMOE_CONCAT_PROJ_NORMAL
                                             : FINERMOE_CONCAT_PROJ_ZERO;
    return finermoe_upcycle_options_set_concat_proj(to, value, e);
  });
  maybe("separate_router", finermoe_upcycle_options_set_separate_router);
  maybe("down_scale", finermoe_upcycle_options_set_down_scale);
  maybe("drop_ratio", finermoe_upcycle_options_set_drop_ratio);
  maybe("router_init", [](auto* to, const std::string& name, auto** e) {
    return finermoe_upcycle_options_set_router_init(
        to, name == "normal" ? FINERMOE_ROUTER_INIT_NORMAL : FINERMOE_ROUTER_INIT_VIRTUAL_GROUP, e);
  });
  return options;
}

Json upcycle(const Json& row) {
  const fs::path out = temporary_folder() / "out";
  const auto options = upcycle_options(row);
  const auto writer = writer_options(row);
  call([&](auto** e) {
    return finermoe_upcycle_run(model_path(row).c_str(), out.c_str(), options.get(), writer.get(), e);
  });
  return sha256_of(out);
}

void quantize_to(const fs::path& out, const Json& row, finermoe_writer_options* writer) {
  const auto options = create<QuantizeOptions>([&](auto** to, auto** e) {
    return finermoe_quantize_options_create(dtype_named(row.value("dtype", "q8")), to, e);
  });
  for (const Json& pair : row.value("overrides", Json::array())) {
    const std::string pattern = pair[0];
    call([&](auto** e) {
      return finermoe_quantize_options_add_override(options.get(), pattern.c_str(), dtype_named(pair[1]), e);
    });
  }
  call([&](auto** e) { return finermoe_quantize_run(model_path(row).c_str(), out.c_str(), options.get(), writer, e); });
}
Json quantize(const Json& row) {
  const fs::path out = temporary_folder() / "out";
  quantize_to(out, row, nullptr);
  return sha256_of(out);
}

Json synthesize(const Json& row) {
  const fs::path out = temporary_folder() / "out";
  const auto writer = writer_options(row);
  call([&](auto** e) {
    return finermoe_synthesize_run(model_path(row).c_str(), out.c_str(), dtype_named(row["dtype"]), writer.get(), e);
  });
  return sha256_of(out);
}

Json verify(const Json& row) {
  const auto verification = create<VerificationHandle>([&](auto** out, auto** e) {
    return finermoe_verification_run(model_path(row).c_str(), nullptr, nullptr, nullptr, out, e);
  });
  Json files = Json::array();
  for (size_t i = 0; i < finermoe_verification_count(verification.get()); i++) {
    const auto file = get<finermoe_verification_file>(
        [&](auto* out, auto** e) { return finermoe_verification_get_file(verification.get(), i, out, e); });
    files.push_back({file.name, file.n_tensors, file.n_nan, file.n_infinite, file.sha256});
  }
  return {{"files", files}};
}

Json writer_progress(const Json& row) {
  Progress progress;
  const auto writer = writer_options();
  call([&](auto** e) { return finermoe_writer_options_set_progress(writer.get(), Progress::see, &progress, e); });
  quantize_to(temporary_folder() / "out", row, writer.get());
  return progress.result();
}

Json writer_cancel(const Json& row) {
  const fs::path folder = temporary_folder();
  const auto writer = writer_options();
  const auto stop = [](void*, const char*, uint64_t, uint64_t) -> int32_t { return 1; };
  call([&](auto** e) { return finermoe_writer_options_set_progress(writer.get(), stop, nullptr, e); });
  const std::string code = code_of([&] { quantize_to(folder / "out", row, writer.get()); });
  Json left = Json::array();
  for (const auto& entry : fs::directory_iterator(folder)) left.push_back(entry.path().filename());
  return {{"code", code}, {"left", left}};
}

Json writer_exists(const Json& row) {
  const fs::path out = temporary_folder() / "out";
  quantize_to(out, row, nullptr);
  const std::string code = code_of([&] { quantize_to(out, row, nullptr); });
  const auto writer = writer_options();
  call([&](auto** e) { return finermoe_writer_options_set_overwrite(writer.get(), 1, e); });
  quantize_to(out, row, writer.get());
  return {{"code", code}, {"replaced", true}};
}

}  // namespace

void add_writers(Behaviours& behaviours) {
  behaviours.insert({{"upcycle", upcycle},
                     {"quantize", quantize},
                     {"synthesize", synthesize},
                     {"verify", verify},
                     {"writer_progress", writer_progress},
                     {"writer_cancel", writer_cancel},
                     {"writer_exists", writer_exists}});
}
