"""Makes a FineRMoE from a dense model, with a progress bar, and shows what came out."""

import argparse

import finermoe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dense")
    parser.add_argument("out")
    parser.add_argument("--preset", default="finermoe")
    parser.add_argument("--granularity", type=int, default=0, help="G_I, of the intermediate dimension")
    parser.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args()

    finermoe.upcycle(arguments.dense, arguments.out, preset=arguments.preset, g_i=arguments.granularity,
                     overwrite=arguments.overwrite, progress=True)
    config = finermoe.Config(arguments.out)
    print(f"{config.n_experts} experts, of which a token uses {config.n_experts_per_token}; "
          f"{config.parameters_active:,} of {config.parameters_total:,} parameters")


if __name__ == "__main__":
    main()
