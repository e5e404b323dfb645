package finermoe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** How the native library is found, each time in a new process. */
class NativeLibraryTest {
  /** What the processes run. */
  public static final class Program {
    private Program() {}

    /** Prints the version. With an argument, that library is loaded first, and used before and after. */
    public static void main(String[] arguments) {
      if (arguments.length > 0) System.load(arguments[0]);
      if (arguments.length > 0) System.out.println(OtherRuntime.thrown("before"));
      try (Model model = Models.open()) {
        System.out.println(Finermoe.version() + model.generate("A ship", GenerationOptions.of(model).maxTokens(6)));
        try {
          Model.open(Path.of("/no/such/model"));
        } catch (FinermoeException error) {
          System.out.println(error.code());
        }
      }
      if (arguments.length > 0) System.out.println(OtherRuntime.thrown("after"));
    }
  }

  private static Process start(List<String> options, String... arguments) throws IOException {
    final Path java = Path.of(System.getProperty("java.home"), "bin/java");
    final List<String> command = new ArrayList<>(List.of(java.toString(), "-Xcheck:jni", "-Xshare:auto", "-cp",
        System.getProperty("java.class.path"),
        "-Dfinermoe.models=" + System.getProperty("finermoe.models"),
        "-Dfinermoe.shapes=" + System.getProperty("finermoe.shapes")));
    command.addAll(options);
    command.add(Program.class.getName());
    command.addAll(List.of(arguments));
    final ProcessBuilder builder = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT);
    builder.environment().remove("XDG_CACHE_HOME");
    return builder.start();
  }

  private static String output(Process process) throws Exception {
    final String output = new String(process.getInputStream().readAllBytes());
    assertEquals(0, process.waitFor(), output);
    return output;
  }

  private static String expected() {
    try (Model model = Models.open()) {
      return Finermoe.version() + model.generate("A ship", GenerationOptions.of(model).maxTokens(6))
          + "\nFILE_NOT_FOUND\n";
    }
  }

  private static List<Path> files(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      return files.filter(Files::isRegularFile).toList();
    }
  }

  @Test
  void twoProcessesUnpackAtOnce(@TempDir Path folder) throws Exception {
    final List<String> home = List.of("-Duser.home=" + folder);
    final Process first = start(home);
    final Process second = start(home);
    assertEquals(expected(), output(first));
    assertEquals(expected(), output(second));
    assertEquals(1, files(folder).size());
    assertEquals(folder.resolve(".cache/finermoe"), files(folder).get(0).getParent());

    // A damaged copy is replaced, and a whole one used by its path.
    Files.write(files(folder).get(0), new byte[100]);
    assertEquals(expected(), output(start(home)));
    assertEquals(1, files(folder).size());
    assertEquals(expected(), output(start(List.of("-Dfinermoe.library=" + files(folder).get(0)))));
  }

  @Test
  void aPlaceThatCannotBeWritten(@TempDir Path folder) throws Exception {
    final Path file = Files.writeString(folder.resolve("file"), "");
    final Path temporary = Files.createDirectory(folder.resolve("temporary"));
    final List<String> options = List.of("-Dfinermoe.cache=" + file.resolve("cache"), "-Djava.io.tmpdir=" + temporary);
    assertEquals(expected(), output(start(options)));
    assertEquals(List.of(file), files(folder));
  }

  @Test
  void besideAnotherRuntimeForCpp(@TempDir Path folder) throws Exception {
    final Path include = Path.of(System.getProperty("java.home"), "include");
    assumeTrue(Files.exists(include.resolve("jni.h")), "jni.h: not in " + include);
    for (List<String> how : List.of(List.of("-static-libstdc++", "-static-libgcc"), List.of("-Wl,-z,now"))) {
      final Path library = folder.resolve("libother.so");
      final List<String> command = new ArrayList<>(List.of("g++", "-shared", "-fPIC", "-I" + include,
          "-I" + include + "/linux", System.getProperty("finermoe.other"), "-o", library.toString()));
      command.addAll(how);
      try {
        assertEquals("", output(new ProcessBuilder(command).redirectErrorStream(true).start()));
      } catch (IOException none) {
        assumeTrue(false, "g++: not here");
      }
      assertEquals("caught before\n" + expected() + "caught after\n",
          output(start(List.of("-Dfinermoe.cache=" + folder), library.toString())));
    }
  }
}
