package fedagg.bridge.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** A JSON object's or array's values by name or place, each of the type and within the bounds that are asked for. */
final class Fields {
  private final String where;
  private final Map<?, ?> object; // null for an array
  private final List<?> array; // null for an object

  private Fields(String where, Map<?, ?> object, List<?> array) {
    this.where = where;
    this.object = object;
    this.array = array;
  }

  static Fields object(String where, Object value) throws ModelFileException {
    if (!(value instanceof Map)) {
      throw wrong(where, value, "an object");
    }
    return new Fields(where, (Map<?, ?>) value, null);
  }

  static Fields array(String where, Object value) throws ModelFileException {
    if (!(value instanceof List)) {
      throw wrong(where, value, "an array");
    }
    return new Fields(where, null, (List<?>) value);
  }

  boolean has(String name) {
    return object.containsKey(name);
  }

  List<String> names() {
    List<String> found = new ArrayList<>();
    for (Object name : object.keySet()) {
      found.add((String) name);
    }
    return found;
  }

  int size() {
    return array.size();
  }

  Fields object(String name) throws ModelFileException {
    return object(place(name), any(name));
  }

  Fields array(String name) throws ModelFileException {
    return array(place(name), any(name));
  }

  /** An item that is an array of {@code size} values. */
  Fields array(int item, int size) throws ModelFileException {
    Fields found = array(place(item), any(item));
    if (found.size() != size) {
      throw new ModelFileException(found.where + ": got " + found.size() + " values, expected " + size);
    }
    return found;
  }

  String text(String name) throws ModelFileException {
    return text(place(name), any(name));
  }

  String text(int item) throws ModelFileException {
    return text(place(item), any(item));
  }

  int integer(String name, int least, int most) throws ModelFileException {
    return integer(place(name), any(name), least, most);
  }

  int integer(int item, int least, int most) throws ModelFileException {
    return integer(place(item), any(item), least, most);
  }

  boolean flag(String name) throws ModelFileException {
    return flag(place(name), any(name));
  }

  boolean flag(int item) throws ModelFileException {
    return flag(place(item), any(item));
  }

  /** A finite number, as binary32. */
  float number(int item) throws ModelFileException {
    Object value = any(item);
    if (!(value instanceof Double) || Float.isInfinite(((Double) value).floatValue())) {
      throw wrong(place(item), value, "a finite number");
    }
    return ((Double) value).floatValue();
  }

  /** Finite numbers, as binary32. */
  float[] numbers(String name) throws ModelFileException {
    Fields list = array(name);
    float[] found = new float[list.size()];
    for (int i = 0; i < found.length; i++) {
      found[i] = list.number(i);
    }
    return found;
  }

  String[] texts(String name) throws ModelFileException {
    Fields list = array(name);
    String[] found = new String[list.size()];
    for (int i = 0; i < found.length; i++) {
      found[i] = list.text(i);
    }
    return found;
  }

  /** Sizes of at most {@code most} dimensions, each {@code least} or more, of at most {@link Shapes#LARGEST} numbers. */
  int[] shape(String name, int least, int most) throws ModelFileException {
    return shape(place(name), array(name), least, most);
  }

  int[] shape(int item, int least, int most) throws ModelFileException {
    return shape(place(item), array(place(item), any(item)), least, most);
  }

  private static int[] shape(String where, Fields list, int least, int most) throws ModelFileException {
    if (list.size() > most) {
      throw new ModelFileException(where + ": got " + list.size() + " dimensions, expected at most " + most);
    }
    int[] found = new int[list.size()];
    for (int i = 0; i < found.length; i++) {
      found[i] = list.integer(i, least, Shapes.LARGEST);
    }
    if (Shapes.numbers(found) > Shapes.LARGEST) {
      throw new ModelFileException(where + ": got more than " + Shapes.LARGEST + " numbers");
    }
    return found;
  }

  private Object any(String name) throws ModelFileException {
    if (!object.containsKey(name)) {
      throw new ModelFileException(place(name) + ": is missing");
    }
    return object.get(name);
  }

  private Object any(int item) throws ModelFileException {
    if (item >= array.size()) {
      throw new ModelFileException(place(item) + ": is missing");
    }
    return array.get(item);
  }

  private String place(String name) {
    return where + "." + name;
  }

  private String place(int item) {
    return where + "[" + item + "]";
  }

  private static String text(String where, Object value) throws ModelFileException {
    if (!(value instanceof String)) {
      throw wrong(where, value, "a text");
    }
    return (String) value;
  }

  private static boolean flag(String where, Object value) throws ModelFileException {
    if (!(value instanceof Boolean)) {
      throw wrong(where, value, "true or false");
    }
    return (Boolean) value;
  }

  private static int integer(String where, Object value, int least, int most) throws ModelFileException {
    if (!(value instanceof Double) || (Double) value != Math.rint((Double) value) || (Double) value < least
        || (Double) value > most) {
      throw wrong(where, value, "an integer from " + least + " to " + most);
    }
    return ((Double) value).intValue();
  }

  private static ModelFileException wrong(String where, Object value, String expected) {
    String got = String.valueOf(value);
    return new ModelFileException(
        where + ": got " + (got.length() > 40 ? got.substring(0, 40) + "..." : got) + ", expected " + expected);
  }
}
