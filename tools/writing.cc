#include "writing.h"

#include <filesystem>

#include "base/stopwatch.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "interrupt.h"
#include "library.h"
#include "printing.h"
#include "progress.h"
#include "units.h"

namespace tool {

void add_out(CLI::App& app, std::string& out) {
  app.add_option("OUT", out, "the directory to write, or a file that ends in .safetensors")->type_name("")->required();
}

void add_seed(CLI::App& app, WriterFlags& flags) {
  add_count(app, "--seed", flags.seed, kAnyNumber, "of every random draw (default 0)");
}

void add_writer(CLI::App& app, WriterFlags& flags) {
  add_size(app, "--shard-size", flags.shard_size, "most bytes in one file (default 5GB)");
  app.add_flag("--force", flags.force, "replace an OUT that exists, when the new one is whole");
}

namespace {

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

// Prints one line about what was written.
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

}  // namespace

int write_model(const WriterFlags& flags, const std::string& out,
                const std::function<void(finermoe_writer_options*)>& write) {
  const finermoe::Stopwatch watch;
  {
    const Interrupt interrupt;
    Progress progress(Progress::kInBytes);
    write(writer_options(flags, progress, interrupt.cancel()).get());
  }
  summarize(out, watch.seconds());
  return kOk;
}

}  // namespace tool
