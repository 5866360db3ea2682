package fedagg.bridge.model;

import fedagg.bridge.wire.Digests;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * A training file, which `fedagg export` writes (docs/on-device.md): what it says of its model, the first weights, and the
 * file as a TFLite runtime takes it. The optimizer is not in it: updates are made outside, by the C++ core.
 */
public final class TrainingFile {
  private static final String FORMAT = "fedagg-tflite";

  /** A random input of a training pass: 1 with probability {@code keep}, else 0. */
  public static final class Mask {
    public final String name;
    public final float keep;
    private final int[] shape;

    private Mask(String name, int[] shape, float keep) {
      this.name = name;
      this.shape = shape;
      this.keep = keep;
    }

    /** Without the batch. */
    public int[] shape() {
      return shape.clone();
    }
  }

  private final Tflite file;
  private final List<ModelEntry> entries;
  private final int trained;
  private final int seen;
  private final float[] counted;
  private final float[] weights;
  private final int[] sampleShape;
  private final int classes;
  private final List<Mask> masks;
  private final boolean rowsApart;
  private final boolean changesBuffers;

  private TrainingFile(Tflite file) throws ModelFileException {
    this.file = file;
    Fields about = file.about;
    entries = entries(about.array("table"));
    trained = numbers(ModelEntry.Kind.TRAINED);
    seen = trained + numbers(ModelEntry.Kind.BUFFER);
    counted = about.numbers("counted");
    weights = floats(file.metadata.get("fedagg.weights"));
    sampleShape = about.shape("sample_shape", 1, 3);
    classes = about.integer("classes", 1, 1 << 16);
    masks = masks(about.array("masks"));
    rowsApart = about.flag("rows_apart");
    if (sampleShape.length == 0 || trained == 0) {
      throw new ModelFileException("description: got no sample shape, or no parameters to train");
    }
    if (counted.length != numbers(ModelEntry.Kind.COUNTER)) {
      throw new ModelFileException(
          "description.counted: got " + counted.length + " counters, its table has " + numbers(ModelEntry.Kind.COUNTER));
    }
    if (weights.length != seen + counted.length) {
      throw new ModelFileException(
          "weights: got " + weights.length + " numbers, its table has " + (seen + counted.length));
    }
    Set<String> given = set("x", "weights", "targets", "settings");
    for (Mask mask : masks) {
      given.add(mask.name);
    }
    file.signature("infer", set("x", "weights"), set("logits"), set());
    changesBuffers =
        file.signature("train", given, set("logits", "gradient"), set("buffers")).outputs.contains("buffers");
    if (changesBuffers && seen == trained) {
      throw new ModelFileException("signature train: it gives buffers, of which its table has none");
    }
  }

  /** The file at {@code path}; throws IOException if it cannot be read. */
  public static TrainingFile read(Path path) throws IOException, ModelFileException {
    return read(content(path));
  }

  /** What {@code content} holds; throws for a file that is foreign, truncated, damaged or of another version. */
  public static TrainingFile read(byte[] content) throws ModelFileException {
    Tflite file = Tflite.read(content.clone(), FORMAT);
    try {
      return new TrainingFile(file);
    } catch (ModelFileException error) {
      throw new ModelFileException(
          "training file: its description cannot be used: " + error.getMessage() + "; export the model again with `fedagg export`",
          error);
    }
  }

  static byte[] content(Path path) throws IOException, ModelFileException {
    long size = Files.size(path);
    if (size > Tflite.LARGEST) {
      throw new ModelFileException(path + ": got " + size + " bytes, a model file has at most " + Tflite.LARGEST);
    }
    return Files.readAllBytes(path);
  }

  private static List<ModelEntry> entries(Fields table) throws ModelFileException {
    List<ModelEntry> found = new ArrayList<>();
    Set<String> names = new HashSet<>();
    int start = 0;
    for (int i = 0; i < table.size(); i++) {
      Fields row = table.array(i, 3);
      String kind = row.text(2);
      ModelEntry entry = new ModelEntry(row.text(0), row.shape(1, 0, 8), kind(kind), start);
      boolean rises = found.isEmpty() || found.get(found.size() - 1).kind.compareTo(entry.kind) <= 0;
      if (!names.add(entry.name) || !rises || (entry.kind == ModelEntry.Kind.COUNTER && entry.size != 1)) {
        throw new ModelFileException(
            "description.table: '" + entry.name + "' comes twice, out of order (trained, buffer, counter), or counts by more "
                + "than one number");
      }
      if ((long) start + entry.size > Shapes.LARGEST) {
        throw new ModelFileException("description.table: got more than " + Shapes.LARGEST + " numbers");
      }
      start += entry.size;
      found.add(entry);
    }
    return Collections.unmodifiableList(found);
  }

  private static ModelEntry.Kind kind(String name) throws ModelFileException {
    for (ModelEntry.Kind kind : ModelEntry.Kind.values()) {
      if (kind.name().toLowerCase(java.util.Locale.ROOT).equals(name)) {
        return kind;
      }
    }
    throw new ModelFileException("description.table: got the kind " + name + ", expected trained, buffer or counter");
  }

  private static List<Mask> masks(Fields list) throws ModelFileException {
    List<Mask> found = new ArrayList<>();
    for (int i = 0; i < list.size(); i++) {
      Fields row = list.array(i, 3);
      Mask mask = new Mask(row.text(0), row.shape(1, 1, 8), row.number(2));
      if (!(mask.keep >= 0 && mask.keep <= 1)) {
        throw new ModelFileException("description.masks: got the probability " + mask.keep + ", expected 0 to 1");
      }
      found.add(mask);
    }
    return Collections.unmodifiableList(found);
  }

  static float[] floats(byte[] raw) throws ModelFileException {
    if (raw == null || raw.length % 4 != 0) {
      throw new ModelFileException("weights: expected binary32 numbers, got " + (raw == null ? "none" : raw.length + " bytes"));
    }
    float[] found = new float[raw.length / 4];
    ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(found);
    return found;
  }

  static Set<String> set(String... names) {
    return new HashSet<>(Arrays.asList(names));
  }

  private int numbers(ModelEntry.Kind kind) {
    int sum = 0;
    for (ModelEntry entry : entries) {
      sum += entry.kind == kind ? entry.size : 0;
    }
    return sum;
  }

  /** The arrays of the flat weights, in order: trained ones, buffers, counters. */
  public List<ModelEntry> entries() {
    return entries;
  }

  /** Numbers of the flat weights that are trained; they come first. */
  public int trained() {
    return trained;
  }

  /** Numbers that the graphs take: all but the counters. */
  public int seen() {
    return seen;
  }

  /** By how much each counter grows in a training pass. */
  public float[] counted() {
    return counted.clone();
  }

  /** The first weights, flat. */
  public float[] weights() {
    return weights.clone();
  }

  /** Without the batch: (C, H, W), (C, L) or (F). */
  public int[] sampleShape() {
    return sampleShape.clone();
  }

  public int classes() {
    return classes;
  }

  public List<Mask> masks() {
    return masks;
  }

  /** Whether no row of a batch influences another. */
  public boolean rowsApart() {
    return rowsApart;
  }

  /** Whether a training pass gives new buffers. */
  public boolean changesBuffers() {
    return changesBuffers;
  }

  /** SHA-256 of the file. */
  public byte[] digest() {
    return Digests.of(file.content);
  }

  /** A copy of the whole file for {@code new Interpreter(...)}: direct, in the machine's byte order. */
  public ByteBuffer model() {
    return file.model();
  }
}
