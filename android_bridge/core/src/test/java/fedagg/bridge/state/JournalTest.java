package fedagg.bridge.state;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class JournalTest {
  private static final byte[][] RECORDS = {{1}, {}, {2, 3, 4}, new byte[300]};

  private static final Path FULL = Paths.get("/dev/full");

  @TempDir Path folder;

  private Path path() {
    return folder.resolve("journal");
  }

  private byte[] written() throws IOException {
    Files.deleteIfExists(path());
    try (Journal journal = Journal.open(path(), new ArrayList<>())) {
      for (byte[] record : RECORDS) {
        journal.append(record);
      }
    }
    return Files.readAllBytes(path());
  }

  @Test
  void whatWasAppendedIsRead() throws IOException {
    written();
    List<byte[]> found = new ArrayList<>();
    Journal.open(path(), found).close();
    assertEquals(RECORDS.length, found.size());
    for (int i = 0; i < RECORDS.length; i++) {
      assertArrayEquals(RECORDS[i], found.get(i));
    }
  }

  /** A power cut may leave any beginning of the file, and in its last record any bytes at all. */
  @Test
  void wherevertheFileIsCutThereAreTheWholeRecordsBefore() throws IOException {
    byte[] all = written();
    int[] ends = new int[RECORDS.length + 1];
    ends[0] = 8;
    for (int i = 0; i < RECORDS.length; i++) {
      ends[i + 1] = ends[i] + 8 + RECORDS[i].length;
    }
    for (int length = 8; length <= all.length; length++) {
      Files.write(path(), Arrays.copyOf(all, length));
      List<byte[]> found = new ArrayList<>();
      try (Journal journal = Journal.open(path(), found)) {
        int whole = 0;
        while (whole < RECORDS.length && ends[whole + 1] <= length) {
          whole++;
        }
        assertEquals(whole, found.size(), "records of the first " + length + " bytes");
        journal.append(new byte[] {9}); // and it goes on from there
      }
      assertArrayEquals(new byte[] {9}, Journal.peek(path()).get(found.size()));
    }
    for (int at = ends[3] + 4; at < all.length; at++) { // bytes of the last record that did not come to the disk
      byte[] torn = all.clone();
      torn[at] ^= 0x55;
      Files.write(path(), torn);
      List<byte[]> found = new ArrayList<>();
      Journal.open(path(), found).close();
      assertEquals(RECORDS.length - 1, found.size());
    }
  }

  @Test
  void damageInTheMiddleIsToldNotDropped() throws IOException {
    byte[] all = written();
    byte[] damaged = all.clone();
    damaged[8 + 8] ^= 1; // the first record's only byte
    Files.write(path(), damaged);
    assertThrows(Journal.DamagedException.class, () -> Journal.open(path(), new ArrayList<>()));
    assertArrayEquals(damaged, Files.readAllBytes(path())); // left for whoever restores it
    Files.write(path(), new byte[] {1, 2, 3});
    assertThrows(Journal.DamagedException.class, () -> Journal.open(path(), new ArrayList<>()));
    Files.write(path(), new byte[100]);
    assertThrows(Journal.DamagedException.class, () -> Journal.open(path(), new ArrayList<>()));
  }

  @Test
  void aRewriteReplacesAllRecordsAndAHalfWrittenOneIsNothing() throws IOException {
    written();
    Files.write(folder.resolve("journal.new"), new byte[] {1, 2}); // of a kill in the middle of the last rewrite
    List<byte[]> found = new ArrayList<>();
    try (Journal journal = Journal.open(path(), found)) {
      assertEquals(RECORDS.length, found.size());
      journal.rewrite(Arrays.asList(new byte[] {7}, new byte[] {8}));
      journal.append(new byte[] {9});
      assertEquals(journal.size(), Files.size(path()));
    }
    List<byte[]> after = Journal.peek(path());
    assertEquals(3, after.size());
    assertArrayEquals(new byte[] {9}, after.get(2));
    assertFalse(Files.exists(folder.resolve("journal.new")));
  }

  /** /dev/full is a disk without room: what is written there fails as ENOSPC does. */
  @Test
  void aRewriteOnAFullDiskLeavesNothingInTheWay() throws IOException {
    assumeTrue(Files.exists(FULL));
    written();
    Files.createSymbolicLink(beside(), FULL);
    try (Journal journal = Journal.open(path(), new ArrayList<>())) {
      assertFalse(Files.exists(beside(), LinkOption.NOFOLLOW_LINKS), "what a kill in the middle of a rewrite left");
      Files.createSymbolicLink(beside(), FULL);
      assertThrows(IOException.class, () -> journal.rewrite(Arrays.asList(new byte[] {7})));
      assertFalse(Files.exists(beside(), LinkOption.NOFOLLOW_LINKS), "what the rewrite left");
      journal.append(new byte[] {9});
    }
    assertEquals(RECORDS.length + 1, Journal.peek(path()).size());
    Files.createSymbolicLink(beside(), FULL);
    assertThrows(IOException.class, () -> Durable.replace(path(), new byte[9]));
    assertFalse(Files.exists(beside(), LinkOption.NOFOLLOW_LINKS), "what the replacement left");
  }

  private Path beside() {
    return folder.resolve("journal.new");
  }

  @Test
  void whatCannotBeRewrittenStays() throws IOException {
    written();
    try (Journal journal = Journal.open(path(), new ArrayList<>())) {
      Files.createDirectory(folder.resolve("journal.new")); // nothing can be written there
      assertThrows(IOException.class, () -> journal.rewrite(new ArrayList<>()));
      journal.append(new byte[] {9});
    }
    assertEquals(RECORDS.length + 1, Journal.peek(path()).size());
    assertTrue(Files.isDirectory(folder.resolve("journal.new")));
  }
}
