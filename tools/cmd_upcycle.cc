// finermoe upcycle: a Mixture-of-Experts checkpoint from a dense one.
#include <optional>

#include "commands.h"
#include "flags.h"
#include "handles.h"
#include "library.h"
#include "writing.h"

namespace tool {

namespace {

struct UpcycleFlags {
  std::string dense, out, preset = "finermoe", shared, concat_proj, router, router_init;
  uint64_t g_i = 0, r_i = 0, g_o = 0, r_o = 0, t_i = 0;
  std::optional<double> down_scale, drop_ratio;
  WriterFlags writer;
};

void declare(CLI::App& app, UpcycleFlags& flags) {
  app.add_option("DENSE", flags.dense, "the dense model: a directory, or a .safetensors file")
      ->type_name("")
      ->required();
  add_out(app, flags.out);
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

int run_upcycle(const UpcycleFlags& flags) {
  const UpcycleOptions options = upcycle_options(flags);
  return write_model(flags.writer, flags.out, [&](finermoe_writer_options* writer) {
    call(finermoe_upcycle_run, flags.dense.c_str(), flags.out.c_str(), options.get(), writer);
  });
}

}  // namespace

void add_upcycle(CommandLine& line) {
  add_command<UpcycleFlags>(line, "upcycle", "make a Mixture-of-Experts checkpoint from a dense one",
                            "  finermoe upcycle Qwen2.5-1.5B fine-1.5b\n"
                            "  finermoe upcycle tiny-wordnet-dense out --g-i 8 --seed 1\n"
                            "  finermoe upcycle Qwen2.5-1.5B du --preset drop-upcycling --drop-ratio 0.5\n",
                            declare, run_upcycle);
}

}  // namespace tool
