package fedagg.bridge.model;

import fedagg.bridge.wire.Digests;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * A training program of ExecuTorch, which `fedagg export --to executorch` writes (docs/executorch.md): what it says of its
 * model, and the first weights. Read it before the runtime, which ends the process on a damaged file, is given its path.
 */
public final class TrainingProgram {
  private static final String FORMAT = "fedagg-executorch";
  private static final String AGAIN = "export the model again with `fedagg export --to executorch`";
  private static final int SCHEMA = 1;
  private static final byte[] MAGIC = "ET12".getBytes(StandardCharsets.US_ASCII);
  private static final byte[] MARK = "FAGGETPT".getBytes(StandardCharsets.US_ASCII);
  private static final int FOOTER = 3 * 8 + 8 + 32; // lengths of program, description and weights, the mark, SHA-256
  private static final int LARGEST = 1 << 28; // bytes of a file
  private static final int VALUES = 1 << 16; // most that a method gives

  /** What the runtime gives that Java's tensors hold, too; booleans are not among it. */
  private static final Set<String> TYPES = TrainingFile.set("float32", "int64", "uint8");

  private final byte[] digest;
  private final List<ModelEntry> entries;
  private final int trained;
  private final float[] weights;
  private final int[] sampleShape;
  private final int classes;
  private final int rows;
  private final int noiseColumns;
  private final int[] changed;
  private final List<String> backward;

  private TrainingProgram(byte[] digest, Fields about, float[] weights) throws ModelFileException {
    this.digest = digest;
    this.weights = weights;
    entries = entries(about.array("table"));
    int parameters = 0;
    int sum = 0;
    int all = 0;
    for (ModelEntry entry : entries) {
      boolean is = entry.kind == ModelEntry.Kind.TRAINED;
      parameters += is ? 1 : 0;
      sum += is ? entry.size : 0;
      all += entry.size;
    }
    trained = sum;
    if (trained == 0 || weights.length != all) {
      throw new ModelFileException(
          "weights: got " + weights.length + " numbers, its table has " + all + ", " + trained + " of them to train");
    }
    sampleShape = about.shape("sample_shape", 1, 3);
    classes = about.integer("classes", 1, 1 << 16);
    rows = about.integer("rows", 1, 1 << 20);
    noiseColumns = about.integer("noise_columns", 0, Shapes.LARGEST);
    if (sampleShape.length == 0) {
      throw new ModelFileException("sample_shape: got no sizes");
    }
    changed = changed(about.array("changed_buffers"), entries.size() - parameters);
    int outputs = VALUES;
    if (about.has("output_dtypes")) { // older files do not say
      outputs = types(about.array("output_dtypes"));
    }
    backward = backward(about.texts("backward_inputs"), parameters, entries.size() - parameters, outputs);
  }

  /** The file at {@code path}; throws IOException if it cannot be read. */
  public static TrainingProgram read(Path path) throws IOException, ModelFileException {
    if (Files.size(path) > LARGEST) {
      throw new ModelFileException(path + ": got " + Files.size(path) + " bytes, a program has at most " + LARGEST);
    }
    return read(Files.readAllBytes(path));
  }

  /** What {@code content} holds; throws for a file that is foreign, truncated, damaged, of another version, or not for Java. */
  public static TrainingProgram read(byte[] content) throws ModelFileException {
    int foot = content.length - FOOTER;
    if (content.length < 8 || !Arrays.equals(Arrays.copyOfRange(content, 4, 8), MAGIC)) {
      throw new ModelFileException("training program: not a .pte file; " + AGAIN);
    }
    if (foot < 8 || !Arrays.equals(Arrays.copyOfRange(content, foot + 24, foot + 32), MARK)) {
      throw new ModelFileException("training program: a .pte without fedagg's checksum: truncated or foreign; " + AGAIN);
    }
    byte[] sealed = Arrays.copyOf(content, content.length - 32);
    if (!Arrays.equals(Digests.of(sealed), Arrays.copyOfRange(content, content.length - 32, content.length))) {
      throw new ModelFileException(
          "training program: its checksum does not fit its content: damaged; copy it again, or " + AGAIN);
    }
    try {
      return opened(content, foot);
    } catch (ModelFileException error) {
      throw new ModelFileException(
          "training program: its description cannot be used: " + error.getMessage() + "; " + AGAIN, error);
    }
  }

  private static TrainingProgram opened(byte[] content, int foot) throws ModelFileException {
    ByteBuffer lengths = ByteBuffer.wrap(content, foot, 24).order(ByteOrder.LITTLE_ENDIAN);
    long program = lengths.getLong();
    long description = lengths.getLong();
    long weights = lengths.getLong();
    boolean inside = program >= 8 && program <= foot && description >= 0 && description <= Tflite.LONGEST && weights >= 0;
    if (!inside || program + description != foot - weights) {
      throw new ModelFileException("its lengths do not fit " + content.length + " bytes");
    }
    int end = (int) (program + description);
    Fields about = Fields.object("description", Json.read(Arrays.copyOfRange(content, (int) program, end)));
    String format = about.text("format");
    int schema = about.integer("schema", 0, Integer.MAX_VALUE);
    if (!format.equals(FORMAT) || schema != SCHEMA) {
      throw new ModelFileException(
          "got " + format + " of schema " + schema + ", this version reads " + FORMAT + " of schema " + SCHEMA);
    }
    return new TrainingProgram(Digests.of(content), about, TrainingFile.floats(Arrays.copyOfRange(content, end, foot)));
  }

  private static List<ModelEntry> entries(Fields table) throws ModelFileException {
    List<ModelEntry> found = new ArrayList<>();
    Set<String> names = new HashSet<>();
    int start = 0;
    for (int i = 0; i < table.size(); i++) {
      Fields row = table.array(i, 4);
      String type = row.text(3);
      if (!type.equals("float32") && !type.equals("int64")) {
        throw new ModelFileException("table: got " + type + " for " + row.text(0) + ", this version takes float32 and int64");
      }
      boolean whole = type.equals("int64");
      ModelEntry.Kind kind =
          row.flag(2) ? ModelEntry.Kind.TRAINED : whole ? ModelEntry.Kind.COUNTER : ModelEntry.Kind.BUFFER;
      ModelEntry entry = new ModelEntry(row.text(0), row.shape(1, 0, 8), kind, start);
      boolean rises = found.isEmpty() || found.get(found.size() - 1).kind.compareTo(kind) <= 0;
      if (!names.add(entry.name) || !rises || (whole && kind == ModelEntry.Kind.TRAINED)) {
        throw new ModelFileException(
            "table: '" + entry.name + "' comes twice, out of order (trained, floats, whole numbers), or is trained and whole");
      }
      if ((long) start + entry.size > Shapes.LARGEST) {
        throw new ModelFileException("table: got more than " + Shapes.LARGEST + " numbers");
      }
      start += entry.size;
      found.add(entry);
    }
    return Collections.unmodifiableList(found);
  }

  private static int[] changed(Fields list, int buffers) throws ModelFileException {
    int[] found = new int[Math.min(list.size(), buffers + 1)];
    for (int i = 0; i < found.length; i++) {
      found[i] = list.integer(i, i == 0 ? 0 : found[i - 1] + 1, buffers - 1); // rising, so none comes twice
    }
    return found;
  }

  /** How many there are; throws for one that Java cannot hold. */
  private static int types(Fields list) throws ModelFileException {
    for (int i = 0; i < list.size(); i++) {
      if (!TYPES.contains(list.text(i))) {
        throw new ModelFileException(
            "output " + i + " of its method forward is " + list.text(i) + ", of which Java's tensors hold no data");
      }
    }
    return list.size();
  }

  private static List<String> backward(String[] names, int parameters, int buffers, int outputs)
      throws ModelFileException {
    for (String name : names) {
      int colon = name.indexOf(':');
      String kind = name.substring(0, Math.max(colon, 0));
      boolean numbered = colon > 0 && name.substring(colon + 1).matches("[0-9]{1,5}");
      int number = numbered ? Integer.parseInt(name.substring(colon + 1)) : 0;
      boolean fits = numbered
          ? kind.equals("parameter") && number < parameters || kind.equals("buffer") && number < buffers
              || kind.equals("output") && number < outputs
          : name.matches("x|noise|upstream");
      if (!fits) {
        throw new ModelFileException("backward_inputs: got '" + name + "', which there is not");
      }
    }
    return Collections.unmodifiableList(Arrays.asList(names));
  }

  /** The arrays of the flat weights, in the order in which the methods take them; counters are int64 there. */
  public List<ModelEntry> entries() {
    return entries;
  }

  /** Numbers of the flat weights that are trained; they come first. */
  public int trained() {
    return trained;
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

  /** Of the largest batch. */
  public int rows() {
    return rows;
  }

  /** Random numbers that a row of a training pass takes, 0 without dropout. */
  public int noiseColumns() {
    return noiseColumns;
  }

  /** Which of the arrays that are not trained a training pass leaves changed: the outputs of `forward` behind the logits. */
  public int[] changed() {
    return changed.clone();
  }

  /** What `backward` takes: `x`, `noise`, `upstream`, or a number of a `parameter:`, a `buffer:`, an `output:` of `forward`. */
  public List<String> backward() {
    return backward;
  }

  /** SHA-256 of the file. */
  public byte[] digest() {
    return digest.clone();
  }
}
