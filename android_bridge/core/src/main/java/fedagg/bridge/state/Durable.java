package fedagg.bridge.state;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;

/** Files that are whole after a power cut: written beside, synced, renamed, and the folder synced. */
public final class Durable {
  private Durable() {}

  /** Puts {@code content} in the place of the file at {@code path}: all of it, or what was there before. */
  public static void replace(Path path, byte[] content) throws IOException {
    Path beside = beside(path);
    try (FileChannel file =
        FileChannel.open(
            beside, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.TRUNCATE_EXISTING)) {
      writeAll(file, ByteBuffer.wrap(content));
      file.force(true);
      Files.move(beside, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException error) {
      discard(beside);
      throw error;
    }
    syncFolder(path.toAbsolutePath().getParent());
  }

  /** Deletes what a failed write or a kill left of the next content of {@code path}: on a full disk it would stay in the way. */
  public static void sweep(Path path) {
    discard(beside(path));
  }

  static Path beside(Path path) {
    return path.resolveSibling(path.getFileName() + ".new");
  }

  static void discard(Path file) {
    try {
      if (!Files.isDirectory(file, LinkOption.NOFOLLOW_LINKS)) {
        Files.deleteIfExists(file);
      }
    } catch (IOException error) {
      // it is no reason for another failure: the next sweep tries again
    }
  }

  /** A rename is only durable once its folder is. */
  static void syncFolder(Path folder) throws IOException {
    try (FileChannel opened = FileChannel.open(folder, StandardOpenOption.READ)) {
      opened.force(true);
    }
  }

  static void writeAll(FileChannel file, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      file.write(bytes);
    }
  }
}
