package finermoe;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** What a check of all files of a model found. Immutable. */
public final class Verification extends NativeObject {
  private Verification() {
    super(NativeJNI::verificationFree, null, null);
  }

  /**
   * Reads every file of a model once: structure, SHA-256, NaN and infinity. Bad values are a finding, not an error.
   *
   * @param path     a model
   * @param listener null: nobody
   * @param cancel   null: none
   * @return what was found
   */
  public static Verification run(Path path, ProgressListener listener, Cancel cancel) {
    final Verification verification = new Verification();
    final Callback progress = Callback.of(listener);
    final Interruption running = Interruption.enter(cancel, null);
    try {
      Native.verificationRun(path, progress, running.flag(), verification);
    } finally {
      running.leave();
      java.lang.ref.Reference.reachabilityFence(progress);
    }
    return verification;
  }

  /**
   * What was found.
   *
   * @return one for each file
   */
  public List<VerifiedFile> files() {
    final List<VerifiedFile> files = new ArrayList<>();
    try (NativeVerificationFile file = new NativeVerificationFile()) {
      for (long i = 0; i < Native.verificationCount(this); i++) {
        Native.verificationGetFile(this, i, file);
        files.add(VerifiedFile.of(file));
      }
    }
    return files;
  }
}
