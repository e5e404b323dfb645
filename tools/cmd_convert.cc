// finermoe upcycle, synthesize, quantize, verify: write checkpoints, and check them.
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>

#include "flags.h"
#include "input.h"
#include "progress.h"

namespace tool {

namespace {

struct WriterFlags {
  uint64_t seed = 0, shard_size = 0;
  bool force = false;
};

void add_seed(CLI::App& app, WriterFlags& flags) {
  add_count(app, "--seed", flags.seed, kAnyNumber, "of every random draw (default 0)");
}

void add_writer(CLI::App& app, WriterFlags& flags) {
  add_size(app, "--shard-size", flags.shard_size, "most bytes in one file (default 5GB)");
  app.add_flag("--force", flags.force, "replace an OUT that exists, when the new one is whole");
}

WriterOptions writer_options(const WriterFlags& flags, Progress& progress, finermoe_cancel* cancel) {
  WriterOptions options;
  call(finermoe_writer_options_create, options.out());
  call(finermoe_writer_options_set_seed, options.get(), flags.seed);
  if (flags.shard_size != 0) call(finermoe_writer_options_set_shard_size, options.get(), flags.shard_size);
  call(finermoe_writer_options_set_overwrite, options.get(), flags.force ? 1 : 0);
  call(finermoe_writer_options_set_progress, options.get(), Progress::report, static_cast<void*>(&progress));
  call(finermoe_writer_options_set_cancel, options.get(), cancel);
  return options;
}

uint64_t bytes_on_disk(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::filesystem::file_size(path, error);
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) bytes += entry.file_size(error);
  return bytes;
}

// One line for a person about what was written.
void summarize(const std::string& out, double duration) {
  Config config;
  call(finermoe_config_open, out.c_str(), config.out());
  const auto info = read_info<finermoe_config_info>(finermoe_config_get_info, config.get());
  std::string line = "wrote " + out + ": " + info.model_type + ", " + format_count(info.parameters_total) +
                     " parameters, " + format_count(info.parameters_active) + " active";
  if (info.n_experts > 0) {
    line += ", " + std::to_string(info.n_experts) + " experts of which " + std::to_string(info.n_experts_per_token) +
            " active";
  }
  const uint64_t bytes = bytes_on_disk(out);
  line += "; " + format_bytes(bytes) + " in " + format_fixed(duration, 1) + " s";
  if (duration >= 0.5)
    line += " (" + format_bytes(static_cast<uint64_t>(static_cast<double>(bytes) / duration)) + "/s)";
  complain(line);
}

struct UpcycleFlags {
  std::string dense, out, preset = "finermoe", shared, concat_proj, router, router_init;
  uint64_t g_i = 0, r_i = 0, g_o = 0, r_o = 0, t_i = 0;
  std::optional<double> down_scale, drop_ratio;
  WriterFlags writer;
};

void declare_upcycle(CLI::App& app, UpcycleFlags& flags) {
  app.add_option("DENSE", flags.dense, "the dense model: a directory, or a .safetensors file")
      ->type_name("")
      ->required();
  app.add_option("OUT", flags.out, "the directory to write, or a file that ends in .safetensors")
      ->type_name("")
      ->required();
  add_choice(app, "--preset", flags.preset,
             {"finermoe", "c32a2", "s16a4", "drop-upcycling", "nvshard", "no-fg", "inter-fg", "out-fg"},
             "the shape to begin with (default finermoe)");
  const auto size = [&](const char* name, uint64_t& value, const char* description) {
    add_count(app, name, value, {1, INT32_MAX}, description);
  };
  size("--g-i", flags.g_i, "G_I, intermediate granularity");
  size("--r-i", flags.r_i, "R_I, intermediate expansion");
  size("--g-o", flags.g_o, "G_O, output granularity");
  size("--r-o", flags.r_o, "R_O, output expansion");
  size("--t-i", flags.t_i, "T_I, experts kept in each group");
  add_choice(app, "--shared", flags.shared, {"copy", "none"}, "the shared expert: a copy of the dense FFN, or none");
  add_choice(app, "--concat-proj", flags.concat_proj, {"none", "normal", "zero"},
             "a projection after the concatenation, and how it begins");
  add_choice(app, "--router", flags.router, {"single", "separate"}, "a second router for the output components or not");
  add_choice(app, "--router-init", flags.router_init, {"normal", "virtual-group"}, "how the router begins");
  add_real(app, "--down-scale", flags.down_scale, "factor of the experts' down matrices");
  add_real(app, "--drop-ratio", flags.drop_ratio, "share of each expert that is drawn anew");
  add_seed(app, flags.writer);
  add_writer(app, flags.writer);
}

UpcycleOptions upcycle_options(const UpcycleFlags& flags) {
  UpcycleOptions owner;
  call(finermoe_upcycle_options_create, flags.preset.c_str(), owner.out());
  finermoe_upcycle_options* const options = owner.get();
  call(finermoe_upcycle_options_set_shape, options, flags.g_i, flags.r_i, flags.g_o, flags.r_o, flags.t_i);
  if (!flags.shared.empty()) {
    call(finermoe_upcycle_options_set_shared_expert, options, flags.shared == "copy" ? 1 : 0);
  }
  if (!flags.concat_proj.empty()) {
    const int32_t concat_proj = flags.concat_proj == "normal" ? FINERMOE_CONCAT_PROJ_NORMAL
                                : flags.concat_proj == "zero" ? FINERMOE_CONCAT_PROJ_ZERO
                                                              : FINERMOE_CONCAT_PROJ_NONE;
    call(finermoe_upcycle_options_set_concat_proj, options, concat_proj);
  }
  if (!flags.router.empty()) {
    call(finermoe_upcycle_options_set_separate_router, options, flags.router == "separate" ? 1 : 0);
  }
  if (!flags.router_init.empty()) {
    const int32_t router_init =
        flags.router_init == "virtual-group" ? FINERMOE_ROUTER_INIT_VIRTUAL_GROUP : FINERMOE_ROUTER_INIT_NORMAL;
    call(finermoe_upcycle_options_set_router_init, options, router_init);
  }
  if (flags.down_scale) call(finermoe_upcycle_options_set_down_scale, options, *flags.down_scale);
  if (flags.drop_ratio) call(finermoe_upcycle_options_set_drop_ratio, options, *flags.drop_ratio);
  return owner;
}

// Writes OUT with a progress bar, until it is done or interrupted, and says what became of it.
template <class Write>
int write_model(const WriterFlags& flags, const std::string& out, Write write) {
  const double begin = seconds();
  {
    const Interrupt interrupt;
    Progress progress(Progress::kInBytes);
    write(writer_options(flags, progress, interrupt.cancel()).get());
  }
  summarize(out, seconds() - begin);
  return kOk;
}

int run_upcycle(const UpcycleFlags& flags) {
  const UpcycleOptions options = upcycle_options(flags);
  return write_model(flags.writer, flags.out, [&](finermoe_writer_options* writer) {
    call(finermoe_upcycle_run, flags.dense.c_str(), flags.out.c_str(), options.get(), writer);
  });
}

struct SynthesizeFlags {
  std::string config, out, dtype;
  WriterFlags writer;
};

void declare_synthesize(CLI::App& app, SynthesizeFlags& flags) {
  app.add_option("CONFIG", flags.config, "a config.json, or a directory that holds one")->type_name("")->required();
  app.add_option("OUT", flags.out, "the directory to write, or a file that ends in .safetensors")
      ->type_name("")
      ->required();
  add_choice(app, "--dtype", flags.dtype, {"f32", "f16", "bf16", "q8", "q4"},
             "storage type of the matrices (default: the configuration's)");
  add_seed(app, flags.writer);
  add_writer(app, flags.writer);
}

int run_synthesize(const SynthesizeFlags& flags) {
  return write_model(flags.writer, flags.out, [&](finermoe_writer_options* writer) {
    const int32_t dtype = flags.dtype.empty() ? -1 : dtype_code(flags.dtype);
    call(finermoe_synthesize_run, flags.config.c_str(), flags.out.c_str(), dtype, writer);
  });
}

struct QuantizeFlags {
  std::string model, out, dtype = "q8";
  std::vector<std::string> overrides;
  WriterFlags writer;
};

void declare_quantize(CLI::App& app, QuantizeFlags& flags) {
  add_model(app, flags.model)->required();
  app.add_option("OUT", flags.out, "the directory to write, or a file that ends in .safetensors")
      ->type_name("")
      ->required();
  add_choice(app, "--dtype", flags.dtype, {"q8", "q4"}, "of the matrices; embeddings and head are q8 (default q8)");
  app.add_option("--override", flags.overrides, "another type (q8, q4, source) for the matrices whose names match")
      ->type_name("PATTERN=TYPE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_writer(app, flags.writer);
}

QuantizeOptions quantize_options(const QuantizeFlags& flags) {
  QuantizeOptions options;
  call(finermoe_quantize_options_create, dtype_code(flags.dtype), options.out());
  for (const std::string& text : flags.overrides) {
    const size_t sign = text.rfind('=');
    const std::string type = sign == text.npos ? "" : text.substr(sign + 1);
    if (type != "q8" && type != "q4" && type != "source")
      throw Failure(kUsage, "--override: expected PATTERN=q8, =q4 or =source, found " + text);
    call(finermoe_quantize_options_add_override, options.get(), text.substr(0, sign).c_str(),
         type == "source" ? -1 : dtype_code(type));
  }
  return options;
}

int run_quantize(const QuantizeFlags& flags) {
  const QuantizeOptions options = quantize_options(flags);
  return write_model(flags.writer, flags.out, [&](finermoe_writer_options* writer) {
    call(finermoe_quantize_run, flags.model.c_str(), flags.out.c_str(), options.get(), writer);
  });
}

struct VerifyFlags {
  std::string model, sums;
  bool json = false;
};

void declare_verify(CLI::App& app, VerifyFlags& flags) {
  add_model(app, flags.model)->required();
  app.add_option("--sha256sums", flags.sums, "compare with this file, which is as sha256sum writes it")
      ->type_name("FILE");
  app.add_flag("--json", flags.json, "a JSON object instead of lines as sha256sum writes them");
}

// name -> SHA-256 in lower case; from lines "<64 digits>  name" or "<64 digits> *name".
std::map<std::string, std::string> read_sums(const std::string& path) {
  std::map<std::string, std::string> sums;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const bool well_formed = line.size() > 66 && line[64] == ' ' && (line[65] == ' ' || line[65] == '*') &&
                             line.find_first_not_of("0123456789abcdefABCDEF") == 64;
    if (!well_formed) throw Failure(kError, path + ": expected lines as sha256sum writes them, found " + line);
    std::string digits = line.substr(0, 64);
    for (char& c : digits) c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    sums[std::filesystem::path(line.substr(66)).filename().string()] = digits;
  }
  return sums;
}

Json describe(const finermoe_verification_file& file) {
  return {{"name", file.name},
          {"size", file.size},
          {"sha256", file.sha256},
          {"tensors", file.n_tensors},
          {"nan", file.n_nan},
          {"infinite", file.n_infinite},
          {"first_bad", file.first_bad[0] != '\0' ? Json(file.first_bad) : Json(nullptr)}};
}

int run_verify(const VerifyFlags& flags) {
  std::map<std::string, std::string> expected;
  if (!flags.sums.empty()) expected = read_sums(flags.sums);
  Verification verification;
  {
    const Interrupt interrupt;
    Progress progress(Progress::kInBytes);
    call(finermoe_verification_run, flags.model.c_str(), Progress::report, static_cast<void*>(&progress),
         interrupt.cancel(), verification.out());
  }
  Json files = Json::array(), findings = Json::array();
  std::string lines;
  for (size_t i = 0; i < finermoe_verification_count(verification.get()); ++i) {
    finermoe_verification_file file{};
    file.struct_size = sizeof file;
    call(finermoe_verification_get_file, verification.get(), i, &file);
    const std::string name = file.name;
    lines += std::string(file.sha256) + "  " + name + "\n";
    Json description = describe(file);
    if (file.n_nan + file.n_infinite > 0) {
      findings.push_back(name + ": " + std::to_string(file.n_nan) + " NaN and " + std::to_string(file.n_infinite) +
                         " infinite values, the first in " + file.first_bad);
    }
    if (const auto sum = expected.find(name); sum != expected.end()) {
      description["sha256_matches"] = sum->second == file.sha256;
      if (sum->second != file.sha256) {
        findings.push_back(name + ": expected SHA-256 " + sum->second + ", found " + file.sha256);
      }
      expected.erase(sum);
    }
    files.push_back(std::move(description));
  }
  for (const auto& [name, sum] : expected) findings.push_back(name + ": named in " + flags.sums + ", not in the model");
  const bool untied = unties_head(flags.model, open_model(flags.model, {}, nullptr));
  if (untied) complain(std::string("finermoe: note: ") + kUntiedHead);
  const bool ok = findings.empty();
  for (const Json& finding : findings) complain("finermoe: " + finding.get<std::string>());
  print(flags.json ? dump({{"ok", ok}, {"files", files}, {"findings", findings}, {"unties_head", untied}}, 2) : lines);
  return ok ? kOk : kFound;
}

}  // namespace

void add_upcycle(CommandLine& line) {
  add_command<UpcycleFlags>(line, "upcycle", "make a Mixture-of-Experts checkpoint from a dense one",
                            "  finermoe upcycle Qwen2.5-1.5B fine-1.5b\n"
                            "  finermoe upcycle tiny-wordnet-dense out --g-i 8 --seed 1\n"
                            "  finermoe upcycle Qwen2.5-1.5B du --preset drop-upcycling --drop-ratio 0.5\n",
                            declare_upcycle, run_upcycle);
}

void add_synthesize(CommandLine& line) {
  add_command<SynthesizeFlags>(line, "synthesize", "write a random checkpoint of any shape, for tests and benchmarks",
                               "  finermoe synthesize config.json random-model --dtype bf16\n", declare_synthesize,
                               run_synthesize);
}

void add_quantize(CommandLine& line) {
  add_command<QuantizeFlags>(line, "quantize", "write a copy with matrices of 8 or 4 bits",
                             "  finermoe quantize Qwen2.5-1.5B qwen-q8\n"
                             "  finermoe quantize fine-1.5b fine-q4 --dtype q4 --override '*.self_attn.*=q8'\n",
                             declare_quantize, run_quantize);
}

void add_verify(CommandLine& line) {
  add_command<VerifyFlags>(line, "verify", "read every file once: structure, SHA-256, NaN and infinity",
                           "  finermoe verify MODEL > SHA256SUMS\n"
                           "  finermoe verify MODEL --sha256sums SHA256SUMS\n",
                           declare_verify, run_verify);
}

}  // namespace tool
