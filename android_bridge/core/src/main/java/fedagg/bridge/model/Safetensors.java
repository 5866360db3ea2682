package fedagg.bridge.model;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * The head of a safetensors file: 8 bytes of length (little endian), then JSON with a place for each array and texts under
 * `__metadata__`. Arrays are not read, but must fill the file to its end.
 */
final class Safetensors {
  private Safetensors() {}

  /** A text of the metadata; throws for a file that is foreign, truncated, or holds other arrays than binary32 ones. */
  static String text(byte[] content, String name) throws ModelFileException {
    long head = content.length < 8 ? -1 : ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).getLong(0);
    if (head < 2 || head > content.length - 8) {
      throw new ModelFileException("not a safetensors file, or a truncated one");
    }
    int end = 8 + (int) head;
    Fields header = Fields.object("header", Json.read(Arrays.copyOfRange(content, 8, end)));
    String found = header.object("__metadata__").text(name);
    check(header, content.length - end);
    return found;
  }

  /** Whether the arrays lie one after another, over all the bytes that there are. */
  private static void check(Fields header, int bytes) throws ModelFileException {
    int[][] places = new int[header.names().size() - 1][];
    int count = 0;
    for (String name : header.names()) {
      if (name.equals("__metadata__")) {
        continue;
      }
      Fields array = header.object(name);
      Fields offsets = array.array("data_offsets");
      int[] place = {offsets.integer(0, 0, Shapes.LARGEST), offsets.integer(1, 0, Shapes.LARGEST)};
      long size = 4 * Shapes.numbers(array.shape("shape", 0, 8));
      if (!array.text("dtype").equals("F32") || place[1] - place[0] != size || count == places.length) {
        throw new ModelFileException("array '" + name + "': expected binary32 numbers, as many as its shape says");
      }
      places[count++] = place;
    }
    Arrays.sort(places, 0, count, (a, b) -> Integer.compare(a[1], b[1]));
    int at = 0;
    for (int i = 0; i < count; i++) {
      if (places[i][0] != at) {
        throw new ModelFileException("its arrays do not lie one after another");
      }
      at = places[i][1];
    }
    if (at != bytes) {
      throw new ModelFileException("its arrays have " + at + " bytes, it has " + bytes + ": truncated or damaged");
    }
  }
}
