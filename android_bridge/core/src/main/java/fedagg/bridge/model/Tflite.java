package fedagg.bridge.model;

import fedagg.bridge.wire.Digests;
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * A .tflite of ours, read without a FlatBuffer library: its checksum, its description, its signatures (docs/on-device.md).
 *
 * <p>A runtime may crash on a damaged file, so nothing is looked at before the SHA-256 behind the FlatBuffer was right.
 * The checksum is no signature: a file that somebody made for the purpose passes it, so no offset is believed either.
 */
final class Tflite {
  static final int LARGEST = 1 << 28; // bytes of a file
  static final int LONGEST = 1 << 22; // bytes of a description
  private static final int SCHEMA = 2;
  private static final byte[] MARK = "FAGGSHA2".getBytes(StandardCharsets.US_ASCII);
  private static final byte[] MAGIC = "TFL3".getBytes(StandardCharsets.US_ASCII);
  private static final String AGAIN = "export the model again with `fedagg export`";

  // places of fields by TFLite's schema
  private static final int MODEL_BUFFERS = 4;
  private static final int MODEL_METADATA = 6;
  private static final int MODEL_SIGNATURES = 7;
  private static final int METADATA_NAME = 0;
  private static final int METADATA_BUFFER = 1;
  private static final int BUFFER_DATA = 0;
  private static final int SIGNATURE_INPUTS = 0;
  private static final int SIGNATURE_OUTPUTS = 1;
  private static final int SIGNATURE_KEY = 2;
  private static final int TENSOR_NAME = 0;

  /** Names of what a signature takes and gives. */
  static final class Signature {
    final Set<String> inputs;
    final Set<String> outputs;

    private Signature(Set<String> inputs, Set<String> outputs) {
      this.inputs = inputs;
      this.outputs = outputs;
    }
  }

  final byte[] content;
  final Fields about;
  final Map<String, byte[]> metadata;
  final Map<String, Signature> signatures;
  private final ByteBuffer bytes;

  private Tflite(byte[] content, String format) throws ModelFileException {
    this.content = content;
    bytes = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
    try {
      metadata = metadata();
      byte[] packed = metadata.get("fedagg");
      if (packed == null) {
        throw new ModelFileException("it has no entry 'fedagg'");
      }
      about = Fields.object("description", Json.read(unpacked(packed)));
      String found = about.text("format");
      int schema = about.integer("schema", 0, Integer.MAX_VALUE);
      if (!found.equals(format) || schema != SCHEMA) {
        throw new ModelFileException(
            "got " + found + " of schema " + schema + ", this version reads " + format + " of schema " + SCHEMA);
      }
      signatures = signatures();
    } catch (IndexOutOfBoundsException error) {
      throw new ModelFileException("a place in it lies beyond its end", error);
    }
  }

  /** Takes the array, which must not be changed after. Throws for a file that is foreign, damaged or of another format. */
  static Tflite read(byte[] content, String format) throws ModelFileException {
    int body = content.length - 32;
    if (content.length > LARGEST) {
      throw new ModelFileException(
          "model file: got " + content.length + " bytes, expected at most " + LARGEST + "; " + AGAIN);
    }
    if (content.length < 8 || !Arrays.equals(Arrays.copyOfRange(content, 4, 8), MAGIC)) {
      throw new ModelFileException("model file: not a .tflite file; " + AGAIN);
    }
    if (body < 8 + MARK.length || !Arrays.equals(Arrays.copyOfRange(content, body - MARK.length, body), MARK)) {
      throw new ModelFileException("model file: a .tflite without fedagg's checksum: truncated or foreign; " + AGAIN);
    }
    java.security.MessageDigest digest = Digests.sha256();
    digest.update(content, 0, body);
    if (!Arrays.equals(digest.digest(), Arrays.copyOfRange(content, body, content.length))) {
      throw new ModelFileException(
          "model file: its checksum does not fit its content: damaged; copy it again, or " + AGAIN);
    }
    try {
      return new Tflite(content, format);
    } catch (ModelFileException error) {
      throw new ModelFileException("model file: " + error.getMessage() + "; " + AGAIN, error);
    }
  }

  /** The signature of this name; throws without it, or if what it takes or gives is not what is expected. */
  Signature signature(String name, Set<String> inputs, Set<String> outputs, Set<String> mayGive)
      throws ModelFileException {
    Signature found = signatures.get(name);
    if (found == null) {
      throw new ModelFileException("got signatures " + signatures.keySet() + ", expected one called " + name);
    }
    Set<String> more = new HashSet<>(found.outputs);
    more.removeAll(outputs);
    if (!found.inputs.equals(inputs) || !found.outputs.containsAll(outputs) || !mayGive.containsAll(more)) {
      throw new ModelFileException(
          "signature " + name + ": got " + found.inputs + " to " + found.outputs + ", expected " + inputs + " to " + outputs);
    }
    return found;
  }

  /** The whole file as a runtime takes it: direct, in the machine's byte order. */
  ByteBuffer model() {
    ByteBuffer made = ByteBuffer.allocateDirect(content.length).order(ByteOrder.nativeOrder());
    made.put(content);
    made.clear();
    return made;
  }

  private static byte[] unpacked(byte[] description) throws ModelFileException {
    if (description.length > 0 && description[0] == '{') { // older files
      return description;
    }
    Inflater inflater = new Inflater();
    try {
      inflater.setInput(description);
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      byte[] block = new byte[8192];
      while (!inflater.finished()) {
        int count = inflater.inflate(block);
        if (count == 0 && !inflater.finished()) {
          throw new ModelFileException("its description is cut off");
        }
        out.write(block, 0, count);
        if (out.size() > LONGEST) {
          throw new ModelFileException("its description is of more than " + LONGEST + " bytes");
        }
      }
      return out.toByteArray();
    } catch (DataFormatException error) {
      throw new ModelFileException("its description is not packed by zlib: " + error.getMessage(), error);
    } finally {
      inflater.end();
    }
  }

  // FlatBuffers: a table begins with the distance back to its layout, which has the places of its fields

  private Map<String, byte[]> metadata() throws ModelFileException {
    int model = uint(0);
    List<Integer> buffers = tables(field(model, MODEL_BUFFERS));
    Map<String, byte[]> found = new HashMap<>();
    for (int entry : tables(field(model, MODEL_METADATA))) {
      int which = field(entry, METADATA_BUFFER);
      int buffer = buffers.get(which == 0 ? 0 : uint(which)); // 0 is a number's default, and then left out
      found.put(text(entry, METADATA_NAME), vector(field(buffer, BUFFER_DATA)));
    }
    return found;
  }

  private Map<String, Signature> signatures() throws ModelFileException {
    Map<String, Signature> found = new LinkedHashMap<>();
    int field = field(uint(0), MODEL_SIGNATURES);
    for (int each : field == 0 ? new ArrayList<Integer>() : tables(field)) {
      found.put(
          text(each, SIGNATURE_KEY), new Signature(names(each, SIGNATURE_INPUTS), names(each, SIGNATURE_OUTPUTS)));
    }
    return found;
  }

  private Set<String> names(int table, int number) throws ModelFileException {
    Set<String> found = new HashSet<>();
    int field = field(table, number);
    for (int each : field == 0 ? new ArrayList<Integer>() : tables(field)) {
      found.add(text(each, TENSOR_NAME));
    }
    return found;
  }

  private String text(int table, int number) throws ModelFileException {
    return new String(vector(field(table, number)), StandardCharsets.UTF_8);
  }

  /** Where a table's field lies, 0 if the table has none. */
  private int field(int table, int number) throws ModelFileException {
    long layout = (long) table - bytes.getInt(table);
    int size = bytes.getShort(inside(layout)) & 0xffff;
    int place = 4 + 2 * number;
    int offset = place < size ? bytes.getShort(inside(layout + place)) & 0xffff : 0;
    return offset == 0 ? 0 : inside((long) table + offset);
  }

  private List<Integer> tables(int field) throws ModelFileException {
    if (field == 0) {
      throw new ModelFileException("it has no metadata");
    }
    int start = inside((long) field + uint(field));
    int count = uint(start);
    inside(start + 4L * count);
    List<Integer> found = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      int place = start + 4 + 4 * i;
      found.add(inside((long) place + uint(place)));
    }
    return found;
  }

  private byte[] vector(int field) throws ModelFileException {
    if (field == 0) {
      throw new ModelFileException("an entry of its metadata is empty");
    }
    int start = inside((long) field + uint(field));
    int size = uint(start);
    int end = inside(start + 3L + size);
    return Arrays.copyOfRange(content, start + 4, end + 1);
  }

  private int uint(int place) throws ModelFileException {
    return inside(bytes.getInt(place) & 0xffffffffL);
  }

  /** A place or a count, neither of which can reach beyond the end. */
  private int inside(long place) throws ModelFileException {
    if (place < 0 || place >= content.length) {
      throw new ModelFileException("a place in it lies beyond its end");
    }
    return (int) place;
  }
}
