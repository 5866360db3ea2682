package fedagg.bridge.model;

import fedagg.bridge.wire.Digests;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What the autoencoder's file, which `fedagg autoencoder train` wrote, says of samples and codes (docs/autoencoder.md). A
 * federation pins it by the SHA-256 of its bytes. The networks in it are not read: {@link CodecFile} has them for a phone.
 */
public final class AutoencoderFile {
  private static final String FORMAT = "fedagg-autoencoder";
  private static final String AGAIN = "train it again with `fedagg autoencoder train`";
  private static final int SCHEMA = 2; // the newest that is read
  private static final int LARGEST = 1 << 20; // bytes of a file
  private static final int MOST = 1 << 22; // numbers of a sample or an embedding
  private static final String AFFINE = "uint8-affine-per-channel";
  private static final String TABLES = "packed-bits-tables";

  private final byte[] digest;
  private final int[] sampleShape;
  private final int[] embeddingShape;
  private final float[] low;
  private final float[] high;
  private float[] codeLow; // of an affine layout, null for one of tables
  private float[] codeStep;
  private byte[] bits; // of a layout of tables, null for an affine one
  private float[] scale;
  private Map<Integer, float[]> tables;

  private AutoencoderFile(byte[] digest, Fields about) throws ModelFileException {
    this.digest = digest;
    sampleShape = shape(about, "sample_shape");
    Fields range = about.object("input_range");
    low = range.numbers("low");
    high = range.numbers("high");
    boolean fits = low.length == sampleShape[0] && high.length == sampleShape[0];
    for (int c = 0; fits && c < low.length; c++) {
      fits = high[c] > low[c];
    }
    if (!fits) {
      throw new ModelFileException("input_range: expected low below high for each of " + sampleShape[0] + " channels");
    }
    Fields layout = about.object("layout");
    embeddingShape = shape(layout, "embedding_shape");
    if (embeddingShape.length != sampleShape.length) {
      throw new ModelFileException(
          "layout.embedding_shape: got " + embeddingShape.length + " dimensions, samples have " + sampleShape.length);
    }
    String name = layout.text("name");
    if (name.equals(AFFINE)) {
      readAffine(layout);
    } else if (name.equals(TABLES)) {
      readTables(layout);
    } else {
      throw new ModelFileException("layout.name: got " + name + ", this version knows " + AFFINE + " and " + TABLES);
    }
    if (layout.integer("sample_bytes", 1, MOST) != embeddingBytes()) {
      throw new ModelFileException("layout.sample_bytes: expected " + embeddingBytes() + ", which its embeddings make");
    }
  }

  /** The file at {@code path}; throws IOException if it cannot be read. */
  public static AutoencoderFile read(Path path) throws IOException, ModelFileException {
    if (Files.size(path) > LARGEST) {
      throw new ModelFileException(path + ": got " + Files.size(path) + " bytes, an autoencoder has at most " + LARGEST);
    }
    return read(Files.readAllBytes(path));
  }

  /** What {@code content} holds; throws for a file that is foreign, truncated or of another version. */
  public static AutoencoderFile read(byte[] content) throws ModelFileException {
    if (content.length > LARGEST) {
      throw new ModelFileException("autoencoder: got " + content.length + " bytes, one has at most " + LARGEST);
    }
    try {
      Fields meta =
          Fields.object(
              "description",
              Json.read(Safetensors.text(content, "fedagg").getBytes(java.nio.charset.StandardCharsets.UTF_8)));
      String format = meta.text("format");
      int schema = meta.integer("schema", 1, Integer.MAX_VALUE);
      if (!format.equals(FORMAT) || schema > SCHEMA) {
        throw new ModelFileException(
            "got format " + format + " of schema " + schema + ", this version reads " + FORMAT + " up to " + SCHEMA
                + "; update the application");
      }
      return new AutoencoderFile(Digests.of(content), meta.object("autoencoder"));
    } catch (ModelFileException error) {
      throw new ModelFileException("autoencoder: " + error.getMessage() + "; " + AGAIN, error);
    }
  }

  private static int[] shape(Fields from, String name) throws ModelFileException {
    int[] found = from.shape(name, 1, 3);
    if (found.length == 0 || Shapes.numbers(found) > MOST) {
      throw new ModelFileException(name + ": expected 1 to 3 sizes, of at most " + MOST + " numbers");
    }
    return found;
  }

  private void readAffine(Fields layout) throws ModelFileException {
    float[] lows = layout.numbers("low");
    float[] steps = layout.numbers("step");
    if (lows.length != embeddingShape[0] || steps.length != embeddingShape[0]) {
      throw new ModelFileException("layout: expected a low and a step for each of " + embeddingShape[0] + " channels");
    }
    positive("layout.step", steps);
    int each = latentFloats() / embeddingShape[0];
    codeLow = new float[latentFloats()];
    codeStep = new float[latentFloats()];
    for (int d = 0; d < codeLow.length; d++) {
      codeLow[d] = lows[d / each];
      codeStep[d] = steps[d / each];
    }
  }

  private void readTables(Fields layout) throws ModelFileException {
    String digits = layout.text("bits");
    if (digits.length() != latentFloats() || !digits.matches("[0-8]*[1-8][0-8]*")) {
      throw new ModelFileException("layout.bits: expected " + latentFloats() + " digits from 0 to 8, some above 0");
    }
    float[] scales = layout.numbers("scale");
    positive("layout.scale", scales);
    bits = new byte[digits.length()];
    scale = new float[digits.length()];
    int sent = 0;
    for (int d = 0; d < bits.length; d++) {
      bits[d] = (byte) (digits.charAt(d) - '0');
      if (bits[d] > 0 && sent == scales.length) {
        throw new ModelFileException("layout.scale: got " + scales.length + " numbers for more values");
      }
      scale[d] = bits[d] > 0 ? scales[sent++] : 1;
    }
    if (sent != scales.length) {
      throw new ModelFileException("layout.scale: got " + scales.length + " numbers, expected " + sent);
    }
    readLevels(layout.object("tables"));
  }

  private void readLevels(Fields from) throws ModelFileException {
    tables = new LinkedHashMap<>();
    for (byte each : bits) {
      if (each == 0 || tables.containsKey((int) each)) {
        continue;
      }
      float[] levels = from.numbers(String.valueOf(each));
      boolean rise = levels.length == 1 << each;
      for (int i = 1; rise && i < levels.length; i++) {
        rise = levels[i] >= levels[i - 1];
      }
      if (!rise) {
        throw new ModelFileException("layout.tables." + each + ": expected " + (1 << each) + " levels that rise");
      }
      tables.put((int) each, levels);
    }
    if (from.names().size() != tables.size()) {
      throw new ModelFileException("layout.tables: got those for " + from.names() + " bits, values have " + tables.keySet());
    }
  }

  private static void positive(String where, float[] values) throws ModelFileException {
    for (float each : values) {
      if (!(each > 0)) {
        throw new ModelFileException(where + ": got " + each + ", expected every one above 0");
      }
    }
  }

  /** SHA-256 of the file, by which a federation names it. */
  public byte[] digest() {
    return digest.clone();
  }

  /** Throws if this is not the file of that SHA-256: what an application pins, or the federation names. */
  public AutoencoderFile expect(byte[] pinned) throws ModelFileException {
    if (!Arrays.equals(digest, pinned)) {
      throw new ModelFileException(
          "autoencoder: got " + Digests.hex(digest).substring(0, 12) + ", expected " + Digests.hex(pinned)
              + ": damaged or another one; copy it again");
    }
    return this;
  }

  /** Without the batch: (C, H, W), (C, L) or (F). */
  public int[] sampleShape() {
    return sampleShape.clone();
  }

  /** Of an embedding before it becomes bytes. */
  public int[] embeddingShape() {
    return embeddingShape.clone();
  }

  /** Numbers of a sample. */
  public int sampleFloats() {
    return (int) Shapes.numbers(sampleShape);
  }

  /** Numbers of an embedding before it becomes bytes. */
  public int latentFloats() {
    return (int) Shapes.numbers(embeddingShape);
  }

  /** Bytes of a sample's code. */
  public int embeddingBytes() {
    int sum = 0;
    for (int d = 0; bits != null && d < bits.length; d++) {
      sum += bits[d];
    }
    return bits == null ? latentFloats() : (sum + 7) / 8;
  }

  /** Whether a code is a byte a value, value ~ low + code * step; else values have bits, scales and tables. */
  public boolean isAffine() {
    return bits == null;
  }

  /** For each value of an embedding; throws unless {@link #isAffine()}. */
  public float[] codeLow() {
    return only(codeLow).clone();
  }

  /** For each value of an embedding; throws unless {@link #isAffine()}. */
  public float[] codeStep() {
    return only(codeStep).clone();
  }

  /** Bits of each value of an embedding, 0 to 8; throws if {@link #isAffine()}. */
  public byte[] bits() {
    return only(bits).clone();
  }

  /** What the levels of a value are multiplied with; throws if {@link #isAffine()}. */
  public float[] levelScale() {
    return only(scale).clone();
  }

  /** The levels of values with so many bits, rising; throws if {@link #isAffine()}. */
  public Map<Integer, float[]> tables() {
    return Collections.unmodifiableMap(only(tables));
  }

  private static <T> T only(T part) {
    if (part == null) {
      throw new IllegalStateException("autoencoder: its codes have no such numbers; ask isAffine() first");
    }
    return part;
  }

  /**
   * A raw sample on the model's scale: (raw - low) / (high - low) of its channel, clipped to 0..1, which no image of bytes
   * needs and a sensor's spike may. Throws IllegalArgumentException for another size, NaN or infinity.
   */
  public float[] scale(float[] raw) {
    if (raw.length != sampleFloats()) {
      throw new IllegalArgumentException("sample: got " + raw.length + " numbers, expected " + sampleFloats());
    }
    float[] found = new float[raw.length];
    int each = raw.length / low.length;
    for (int i = 0; i < raw.length; i++) {
      if (Float.isNaN(raw[i]) || Float.isInfinite(raw[i])) {
        throw new IllegalArgumentException("sample: got " + raw[i] + " at place " + i + ", expected finite numbers");
      }
      int c = i / each;
      float span = high[c] - low[c]; // rounded to binary32, as in Python, so that both have the same bits
      found[i] = (float) Math.max(0, Math.min(1, ((double) raw[i] - low[c]) / span));
    }
    return found;
  }
}
