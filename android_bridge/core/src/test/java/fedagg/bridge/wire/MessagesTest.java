package fedagg.bridge.wire;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeSet;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

class MessagesTest {
  private interface Decoder {
    Messages.Message decode(byte[] body) throws ProtocolException;
  }

  private static Map<String, Decoder> all() {
    Map<String, Decoder> all = new LinkedHashMap<>();
    all.put("payload", Messages.Payload::decode);
    all.put("hello", Messages.Hello::decode);
    all.put("artefact", Messages.Artefact::decode);
    all.put("offered", Messages.Offered::decode);
    all.put("welcome", Messages.Welcome::decode);
    all.put("append", Messages.Append::decode);
    all.put("appended", Messages.Appended::decode);
    all.put("entry", Messages.Entry::decode);
    all.put("behind", Messages.Behind::decode);
    all.put("wireknowledge", Messages.WireKnowledge::decode);
    all.put("exchange", Messages.Exchange::decode);
    all.put("notice", Messages.Notice::decode);
    all.put("exchanged", Messages.Exchanged::decode);
    all.put("missing", Messages.Missing::decode);
    all.put("enrol", Messages.Enrol::decode);
    all.put("renew", Messages.Renew::decode);
    all.put("enrolled", Messages.Enrolled::decode);
    all.put("moveto", Messages.MoveTo::decode);
    all.put("adopt", Messages.Adopt::decode);
    all.put("adopted", Messages.Adopted::decode);
    all.put("leave", Messages.Leave::decode);
    all.put("left", Messages.Left::decode);
    all.put("problem", Messages.Problem::decode);
    return all;
  }

  @TestFactory
  List<DynamicTest> writesAndReadsTheReleasedBytesAndNoOthers() {
    List<DynamicTest> tests = new ArrayList<>();
    for (Map.Entry<String, Decoder> each : all().entrySet()) {
      tests.add(
          DynamicTest.dynamicTest(
              each.getKey(),
              () -> {
                byte[] released = Fixtures.message(each.getKey());
                assertArrayEquals(released, each.getValue().decode(released).encode());
                damaged(released, each.getValue());
              }));
    }
    return tests;
  }

  /** Every beginning, every bit turned round, and noise: a ProtocolException or another message, never anything else. */
  private static void damaged(byte[] released, Decoder decoder) {
    for (int length = 0; length < released.length; length++) {
      byte[] cut = Arrays.copyOf(released, length);
      assertThrows(ProtocolException.class, () -> decoder.decode(cut), "a message cut at " + length);
    }
    byte[] longer = Arrays.copyOf(released, released.length + 1);
    assertThrows(ProtocolException.class, () -> decoder.decode(longer));
    for (int bit = 0; bit < 8 * released.length; bit++) {
      byte[] turned = released.clone();
      turned[bit / 8] ^= (byte) (1 << bit % 8);
      attempt(turned, decoder);
    }
    Random random = new Random(1);
    for (int i = 0; i < 2000; i++) {
      byte[] noise = new byte[random.nextInt(80)];
      random.nextBytes(noise);
      attempt(noise, decoder);
    }
  }

  private static void attempt(byte[] body, Decoder decoder) {
    try {
      decoder.decode(body).encode();
    } catch (ProtocolException fine) {
      assertTrue(fine.getMessage().contains("got"), fine.getMessage());
    }
  }

  @Test
  void everyFixtureIsRead() throws IOException {
    TreeSet<String> there = new TreeSet<>();
    try (DirectoryStream<Path> files = Files.newDirectoryStream(Fixtures.root().resolve("tests/wire/fixtures"))) {
      for (Path file : files) {
        there.add(file.getFileName().toString().replace(".msgpack", ""));
      }
    }
    assertEquals(new TreeSet<>(all().keySet()), there);
  }

  @Test
  void fieldsAreWhereTheDocumentSays() throws IOException, ProtocolException {
    Messages.Welcome welcome = Messages.Welcome.decode(Fixtures.message("welcome"));
    assertEquals("edge-a", welcome.node);
    assertEquals(10, welcome.classes);
    assertEquals(1.5e9, welcome.time);
    assertEquals(7, welcome.head);
    assertEquals(-1, welcome.version);
    assertEquals("sync", welcome.mode);
    assertEquals(100, welcome.target);
    assertEquals(1 << 20, welcome.limits.chunk);
    assertEquals("autoencoder", welcome.artefacts.get(0).name);
    Messages.WireKnowledge knowledge = Messages.WireKnowledge.decode(Fixtures.message("wireknowledge"));
    assertEquals(Long.MAX_VALUE, knowledge.viewSeed);
    assertEquals(2, knowledge.payload.chunks.size());
    assertNull(Messages.Exchanged.decode(Fixtures.message("exchanged")).knowledge);
    assertArrayEquals(
        Digests.of("bytes".getBytes(StandardCharsets.US_ASCII)),
        Messages.Payload.decode(Fixtures.message("payload")).digest);
  }

  private static void refused(String words, MsgpackWriter body, Decoder decoder) {
    try {
      decoder.decode(body.toBytes());
    } catch (ProtocolException error) {
      assertTrue(error.getMessage().contains(words), error.getMessage());
      return;
    }
    fail("taken: expected " + words);
  }

  @Test
  void whatIsOutOfRangeIsNamed() {
    refused("leave.fence: got -1", new MsgpackWriter().array(1).integer(-1), Messages.Leave::decode);
    refused("leave.fence", new MsgpackWriter().array(1).integer(Long.MAX_VALUE), Messages.Leave::decode);
    refused("got 2 fields, expected 1", new MsgpackWriter().array(2).integer(1).integer(1), Messages.Leave::decode);
    refused("an integer", new MsgpackWriter().array(1).text("1"), Messages.Leave::decode);
    refused(
        "problem.retry_after: got NaN", new MsgpackWriter().array(3).text("rate").text("").number(Double.NaN),
        Messages.Problem::decode);
    refused("problem.code", new MsgpackWriter().array(3).text("").text("").nil(), Messages.Problem::decode);
    refused("32", new MsgpackWriter().array(1).array(1).bytes(new byte[31]), Messages.Missing::decode);
    MsgpackWriter claims = new MsgpackWriter().array(1).array(16_384); // of which none is there
    refused("items", claims, Messages.Missing::decode);
  }

  @Test
  void textsAreUtf8() {
    byte[] overlong = {(byte) 0x93, (byte) 0xa2, (byte) 0xc0, (byte) 0xaf, (byte) 0xa0, (byte) 0xc0};
    ProtocolException error = assertThrows(ProtocolException.class, () -> Messages.Problem.decode(overlong));
    assertTrue(error.getMessage().contains("UTF-8"), error.getMessage());
  }

  @Test
  void integersOfEveryWidthComeBackInTheirShortestForm() throws ProtocolException {
    long[] edges = {
      0, 127, 128, 255, 256, 65_535, 65_536, (1L << 32) - 1, 1L << 32, Long.MAX_VALUE, -1, -32, -33, -128, -129, -32_768,
      -32_769, Integer.MIN_VALUE, Integer.MIN_VALUE - 1L, Long.MIN_VALUE
    };
    int[] sizes = {1, 1, 2, 2, 3, 3, 5, 5, 9, 9, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9};
    for (int i = 0; i < edges.length; i++) {
      byte[] body = new MsgpackWriter().integer(edges[i]).toBytes();
      assertEquals(sizes[i], body.length, "bytes of " + edges[i]);
      assertEquals(edges[i], new MsgpackReader(body).integer("x", Long.MIN_VALUE, Long.MAX_VALUE));
    }
    byte[] tooLarge = {(byte) 0xcf, -1, -1, -1, -1, -1, -1, -1, -1};
    assertThrows(
        ProtocolException.class, () -> new MsgpackReader(tooLarge).integer("x", Long.MIN_VALUE, Long.MAX_VALUE));
  }

  @Test
  void longTextsAndArraysComeBack() throws ProtocolException {
    for (int length : new int[] {0, 31, 32, 255, 256, 65_535, 65_536}) {
      String text = String.join("", Collections.nCopies(length, "x"));
      byte[] bytes = text.getBytes(StandardCharsets.US_ASCII);
      MsgpackReader in = new MsgpackReader(new MsgpackWriter().text(text).bytes(bytes).array(length).toBytes());
      assertEquals(text, in.text("x", 0, 70_000));
      assertArrayEquals(bytes, in.bytes("x", 0, 70_000));
      if (length == 0) {
        assertEquals(0, in.array("x", 0));
      } else {
        assertThrows(ProtocolException.class, () -> in.array("x", 70_000)); // no item is there
      }
    }
  }
}
