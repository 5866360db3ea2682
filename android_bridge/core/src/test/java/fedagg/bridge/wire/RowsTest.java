package fedagg.bridge.wire;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RowsTest {
  private static final long[] COUNTERS = {5, 6, 7};
  private static final byte[] CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

  @ParameterizedTest
  @CsvSource({"held-back,-1,-1,-1", "narrow,0,127,-1", "wide,0,128,1", "widest,0,32768,3"})
  void embeddingsAreAsPythonWritesThem(String name, int first, int second, int third) throws Exception {
    int[] labels = {first, second, third};
    byte[] released = Fixtures.array("embeddings-" + name);
    assertArrayEquals(released, Rows.embeddings(COUNTERS, labels, CODES, 4).dump("d1"));
    Rows back = Rows.loadEmbeddings(released, "d1", 3);
    assertArrayEquals(COUNTERS, back.counters);
    assertArrayEquals(labels, back.labels);
    assertArrayEquals(CODES, back.codes);
    assertEquals(4, back.codeBytes);
  }

  @Test
  void sampleIdsAndSetsAreAsPythonWritesThem() throws Exception {
    assertArrayEquals(Fixtures.array("samples"), Rows.samples(COUNTERS).dump("d1"));
    assertArrayEquals(Fixtures.array("samples-none"), Rows.samples(new long[0]).dump("d1"));
    assertArrayEquals(COUNTERS, Rows.loadSamples(Fixtures.array("samples"), "d1", 3).counters);
    assertArrayEquals(new long[0], Rows.loadSamples(Fixtures.array("samples-none"), "d1", 3).counters);
    assertArrayEquals(Fixtures.array("set-digest"), Digests.ofSamples("d1", COUNTERS));
    assertArrayEquals(Fixtures.array("set-digest-none"), Digests.ofSamples("d1", new long[0]));
  }

  @Test
  void partsAndWhatIsLeftAreRowsLikeOthers() throws Exception {
    Rows all = Rows.embeddings(COUNTERS, new int[] {1, 2, 3}, CODES, 4);
    Rows part = all.part(1, 3);
    assertArrayEquals(new long[] {6, 7}, part.counters);
    assertArrayEquals(new int[] {2, 3}, part.labels);
    assertArrayEquals(new byte[] {4, 5, 6, 7, 8, 9, 10, 11}, part.codes);
    Rows left = all.without(Collections.singleton(6L));
    assertArrayEquals(new long[] {5, 7}, left.counters);
    assertArrayEquals(new byte[] {0, 1, 2, 3, 8, 9, 10, 11}, left.codes);
    Rows none = all.without(new HashSet<>(Arrays.asList(5L, 6L, 7L)));
    assertEquals(0, Rows.loadEmbeddings(none.dump("d1"), "d1", 0).counters.length);
    assertArrayEquals(new long[] {7}, Rows.samples(COUNTERS).part(2, 3).counters);
    assertArrayEquals(new long[] {5}, Rows.samples(COUNTERS).without(new HashSet<>(Arrays.asList(6L, 7L))).counters);
  }

  @Test
  void whatIsNotWholeOrAnothersIsRefused() throws IOException {
    byte[] good = Fixtures.array("embeddings-wide");
    assertThrows(ProtocolException.class, () -> Rows.loadEmbeddings(good, "d2", 3));
    assertThrows(ProtocolException.class, () -> Rows.loadEmbeddings(good, "d1", 2));
    assertThrows(ProtocolException.class, () -> Rows.loadSamples(good, "d1", 3));
    for (int length = 0; length < good.length; length++) {
      byte[] cut = Arrays.copyOf(good, length);
      assertThrows(ProtocolException.class, () -> Rows.loadEmbeddings(cut, "d1", 3));
    }
    Random random = new Random(4);
    for (int i = 0; i < 20_000; i++) {
      byte[] damaged = good.clone();
      for (int k = random.nextInt(3); k >= 0; k--) {
        damaged[random.nextInt(damaged.length)] = (byte) random.nextInt();
      }
      try {
        Rows.loadEmbeddings(damaged, "d1", 3);
      } catch (ProtocolException fine) {
        // anything but this, or rows, fails the test
      }
    }
    byte[] twice = Rows.samples(new long[] {5, 5}).dump("d1");
    assertThrows(ProtocolException.class, () -> Rows.loadSamples(twice, "d1", 3));
  }

  @ParameterizedTest
  @CsvSource({"f32", "f16", "int8"})
  void logitsAreTakenWholeAndFiniteOnly(String format) throws Exception {
    byte[] data = Fixtures.array("logits-" + format);
    Knowledge found = Knowledge.of(knowledge(format, 2, 3), data);
    assertArrayEquals(data, found.data);
    for (int[] shape : new int[][] {{3, 2}, {2, 2}, {2, 4}, {1, 3}, {1 << 20, 1 << 20}}) {
      if (format.equals("int8") || shape[0] * shape[1] != 6) {
        assertThrows(ProtocolException.class, () -> Knowledge.of(knowledge(format, shape[0], shape[1]), data));
      }
    }
    byte[] infinite = data.clone();
    int last = format.equals("int8") ? 7 : data.length - 1; // the sign and the exponent's upper bits
    infinite[last] = 0x7f;
    infinite[last - 1] = (byte) 0xff;
    assertThrows(ProtocolException.class, () -> Knowledge.of(knowledge(format, 2, 3), infinite));
    assertThrows(ProtocolException.class, () -> Knowledge.of(knowledge("f64", 2, 3), data));
    assertThrows(ProtocolException.class, () -> Knowledge.of(knowledge(format, 2, 0), data));
  }

  private static Messages.WireKnowledge knowledge(String format, long rows, long classes) {
    return new Messages.WireKnowledge(0, -1, new byte[32], 0, format, rows, classes, null);
  }
}
