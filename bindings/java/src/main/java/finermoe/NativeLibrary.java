package finermoe;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Locale;

/**
 * Finds the native library, which the jar carries.
 *
 * <p>It is unpacked once into a folder of the user's, under a name with its SHA-256, and compared with that before it
 * is loaded. Several processes may do this at once: each writes a file of its own and moves it into place. Where no
 * such folder can be written, it is unpacked for this process alone. System properties say otherwise:
 * `finermoe.library`, the path of the library to load, and `finermoe.cache`, the folder.
 */
final class NativeLibrary {
  private static final String NAME = "libfinermoe_java.so";

  private NativeLibrary() {}

  static void load() {
    final String given = System.getProperty("finermoe.library");
    if (given != null) {
      System.load(Path.of(given).toAbsolutePath().toString());
      return;
    }
    try {
      final byte[] library = resource(NAME);
      final String sha256 = sha256(library);
      try {
        System.load(unpacked(cache(), sha256, library).toString());
      } catch (IOException noPlace) {
        loadTemporary(library);
      }
    } catch (IOException error) {
      throw new UncheckedIOException("finermoe's native library cannot be unpacked", error);
    }
  }

  /** A file of the folder for this system in the jar; what belongs to other devices can lie beside it in other jars. */
  private static byte[] resource(String name) throws IOException {
    final String system = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    final String machine = System.getProperty("os.arch").equals("amd64") ? "x86_64" : System.getProperty("os.arch");
    final String path = "native/" + system + "-" + machine + "/" + name;
    try (InputStream stream = NativeLibrary.class.getResourceAsStream(path)) {
      if (stream == null) throw new UnsatisfiedLinkError("no native library of finermoe for this system: " + path);
      return stream.readAllBytes();
    }
  }

  private static Path cache() throws IOException {
    final String given = System.getProperty("finermoe.cache");
    if (given != null) return Files.createDirectories(Path.of(given).toAbsolutePath());
    final String user = System.getenv("XDG_CACHE_HOME");
    final Path caches = user != null && Path.of(user).isAbsolute() ? Path.of(user)
        : Path.of(System.getProperty("user.home"), ".cache");
    if (!caches.isAbsolute()) throw new IOException("no home");
    return Files.createDirectories(caches.resolve("finermoe"));
  }

  private static Path unpacked(Path folder, String sha256, byte[] library) throws IOException {
    final Path path = folder.resolve("libfinermoe_java-" + sha256 + ".so");
    if (Files.isRegularFile(path) && sha256(Files.readAllBytes(path)).equals(sha256)) return path;
    final Path own = Files.createTempFile(folder, "unpacking-", ".so");
    try {
      Files.write(own, library);
      Files.setPosixFilePermissions(own, PosixFilePermissions.fromString("rwxr-xr-x"));
      Files.move(own, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (AtomicMoveNotSupportedException error) {
      throw new IOException(error);
    } finally {
      Files.deleteIfExists(own);
    }
    return path;
  }

  private static void loadTemporary(byte[] library) throws IOException {
    final Path own = Files.createTempFile("libfinermoe_java-", ".so");
    try {
      Files.write(own, library);
      System.load(own.toAbsolutePath().toString());
    } finally {
      Files.deleteIfExists(own); // it stays loaded
    }
  }

  private static String sha256(byte[] bytes) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    } catch (NoSuchAlgorithmException impossible) {
      throw new IllegalStateException(impossible);
    }
  }
}
