package finermoe;

import java.nio.file.Path;

/** A model's checked configuration, known without its weights. Immutable; any number of threads may use it at once. */
public final class Config extends NativeObject {
  private Config(Object memory) {
    super(NativeJNI::configFree, null, memory);
  }

  /**
   * Reads a configuration.
   *
   * @param path a model's folder, a config.json, or a single-file model
   * @return a new one
   */
  public static Config open(Path path) {
    final Config config = new Config(null);
    Native.configOpen(path, config);
    return config;
  }

  /**
   * Reads a configuration from memory.
   *
   * @param json the text of a config.json
   * @return a new one
   */
  public static Config parse(String json) {
    final Config config = new Config(null);
    Native.configOpenMemory(json, config);
    return config;
  }

  static Config of(Model model) {
    final Config config = new Config(model.memory());
    Native.configOpenModel(model, config);
    return config;
  }

  /**
   * The shape of the model.
   *
   * @return its fields
   */
  public ConfigInfo info() {
    try (NativeConfigInfo info = new NativeConfigInfo()) {
      Native.configGetInfo(this, info);
      return ConfigInfo.of(info);
    }
  }

  /**
   * The config.json that it was read from: for what the library does not use.
   *
   * @return every byte as it stands there
   */
  public byte[] json() {
    final byte[][] json = {null};
    Native.configGetJson(this, json);
    return json[0];
  }

  /**
   * Computes what a model and one session with the defaults take.
   *
   * @return bytes
   */
  public Plan plan() {
    return plan(null);
  }

  /**
   * Computes what a model and its sessions take.
   *
   * @param options null: one session with the defaults
   * @return bytes
   */
  public Plan plan(PlanOptions options) {
    try (NativePlan plan = new NativePlan()) {
      Native.planCompute(this, options, plan);
      return Plan.of(plan);
    }
  }
}
