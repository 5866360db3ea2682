package fedagg.bridge.state;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32;

/**
 * A file of records that only grows, and now and then is replaced by a shorter one that says the same.
 *
 * <p>A record is whole or absent: length and CRC-32 (big-endian), then its bytes, synced before {@link #append} returns. A
 * record that was cut off by a kill or a power cut can only be the last; it is dropped when the file is opened. Damage
 * before the last record is no accident of writing, and is refused.
 */
final class Journal implements Closeable {
  /** Damage that no crash leaves. */
  static final class DamagedException extends IOException {
    private static final long serialVersionUID = 1L;

    DamagedException(String message) {
      super(message);
    }
  }

  private static final byte[] MAGIC = "FAGGJ1\n\0".getBytes(StandardCharsets.US_ASCII);
  private static final int HEAD = 8;
  private static final int MOST = 1 << 30; // bytes of a record

  private final Path path;
  private FileChannel file;
  private long size; // of what is known to be whole
  private boolean folderIsUnsynced; // a rename may not have come to the disk yet
  private boolean broken; // a write has failed: what is behind `size` is unknown until the file is opened again

  private Journal(Path path) {
    this.path = path;
  }

  /** Opens the file, or makes one; its records go to {@code records} in order. */
  static Journal open(Path path, List<byte[]> records) throws IOException {
    Journal journal = new Journal(path);
    journal.load(records);
    return journal;
  }

  private void load(List<byte[]> records) throws IOException {
    Durable.sweep(path);
    if (!Files.exists(path)) {
      Durable.replace(path, MAGIC); // a new file is whole from the first moment
    }
    file = FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE);
    try {
      size = read(file, records);
      if (file.size() > size) {
        file.truncate(size);
        file.force(true);
      }
    } catch (IOException error) {
      file.close();
      throw error;
    }
  }

  private long read(FileChannel from, List<byte[]> records) throws IOException {
    long length = from.size();
    byte[] magic = new byte[MAGIC.length];
    if (length < magic.length || readAt(from, 0, magic) < magic.length || !Arrays.equals(magic, MAGIC)) {
      throw new DamagedException(path + ": not a journal of this library, or damaged; restore it, or enrol a new node");
    }
    long at = magic.length;
    while (length - at >= HEAD) {
      ByteBuffer head = ByteBuffer.allocate(HEAD);
      readAt(from, at, head.array());
      long bytes = head.getInt() & 0xffffffffL;
      int wanted = head.getInt();
      if (bytes > length - at - HEAD) {
        break; // cut off
      }
      if (bytes > MOST) {
        throw damaged(at);
      }
      byte[] record = new byte[(int) bytes];
      readAt(from, at + HEAD, record);
      if (checksum(record) != wanted) {
        if (at + HEAD + bytes < length) {
          throw damaged(at);
        }
        break; // the last one: its length had come to the disk before its bytes
      }
      records.add(record);
      at += HEAD + bytes;
    }
    return at;
  }

  private DamagedException damaged(long at) {
    return new DamagedException(path + ": damaged at byte " + at + "; restore it, or enrol a new node");
  }

  /** Bytes of the file. */
  long size() {
    return size;
  }

  /** Keeps a record: it is on the disk when this returns, and after a failure it is not, then or later. */
  void append(byte[] record) throws IOException {
    if (broken) {
      reopen();
    }
    syncFolder();
    ByteBuffer all = ByteBuffer.allocate(HEAD + record.length);
    all.putInt(record.length).putInt(checksum(record)).put(record).flip();
    try {
      file.position(size);
      Durable.writeAll(file, all);
      file.force(false);
    } catch (IOException error) {
      broken = true;
      undo();
      throw error;
    }
    size += HEAD + record.length;
  }

  private void undo() {
    try {
      file.truncate(size);
      file.force(true);
      broken = false;
    } catch (IOException again) {
      // stays broken: the next append cuts it off before it writes, or fails as well
    }
  }

  private void reopen() throws IOException {
    file.close();
    file = FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE);
    file.truncate(size);
    file.force(true);
    broken = false;
  }

  /** Replaces all records by these, in one step; after a failure the old ones stand. */
  void rewrite(List<byte[]> records) throws IOException {
    Path beside = Durable.beside(path);
    FileChannel fresh =
        FileChannel.open(
            beside, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE,
            StandardOpenOption.TRUNCATE_EXISTING);
    long length = MAGIC.length;
    try {
      Durable.writeAll(fresh, ByteBuffer.wrap(MAGIC));
      for (byte[] record : records) {
        ByteBuffer head = ByteBuffer.allocate(HEAD);
        head.putInt(record.length).putInt(checksum(record)).flip();
        Durable.writeAll(fresh, head);
        Durable.writeAll(fresh, ByteBuffer.wrap(record));
        length += HEAD + record.length;
      }
      fresh.force(true);
      Files.move(beside, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException error) {
      fresh.close();
      Durable.discard(beside); // it takes the room that the next append needs
      throw error;
    }
    FileChannel old = file;
    file = fresh;
    size = length;
    broken = false;
    folderIsUnsynced = true; // until then the next append waits, or a power cut could bring the old file back without it
    old.close();
    syncFolder();
  }

  private void syncFolder() throws IOException {
    if (folderIsUnsynced) {
      Durable.syncFolder(path.toAbsolutePath().getParent());
      folderIsUnsynced = false;
    }
  }

  @Override
  public void close() throws IOException {
    file.close();
  }

  private static int readAt(FileChannel from, long at, byte[] into) throws IOException {
    ByteBuffer buffer = ByteBuffer.wrap(into);
    while (buffer.hasRemaining()) {
      int got = from.read(buffer, at + buffer.position());
      if (got < 0) {
        break;
      }
    }
    return buffer.position();
  }

  private static int checksum(byte[] bytes) {
    CRC32 sum = new CRC32();
    sum.update(bytes, 0, bytes.length);
    return (int) sum.getValue();
  }

  /** The records of a journal that is not opened for writing: for tests. */
  static List<byte[]> peek(Path path) throws IOException {
    List<byte[]> records = new ArrayList<>();
    try (FileChannel from = FileChannel.open(path, StandardOpenOption.READ)) {
      new Journal(path).read(from, records);
    }
    return records;
  }
}
