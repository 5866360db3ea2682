package fedagg.bridge.model;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads one JSON text (RFC 8259) strictly: objects as maps, arrays as lists, numbers as Double, true and false as Boolean.
 * A name that comes twice is refused, and so is what Python's reader would take beside the standard (NaN, Infinity).
 */
final class Json {
  private static final int DEEPEST = 16; // our files nest five deep; a recursion without bound would end the process

  private final String text;
  private int at;

  private Json(String text) {
    this.text = text;
  }

  static Object read(byte[] utf8) throws ModelFileException {
    String text;
    try {
      text =
          StandardCharsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT)
              .onUnmappableCharacter(CodingErrorAction.REPORT).decode(ByteBuffer.wrap(utf8)).toString();
    } catch (CharacterCodingException error) {
      throw new ModelFileException("JSON: not UTF-8", error);
    }
    Json json = new Json(text);
    Object found = json.value(0);
    json.space();
    if (json.at != text.length()) {
      throw json.wrong("its end");
    }
    return found;
  }

  private Object value(int depth) throws ModelFileException {
    if (depth > DEEPEST) {
      throw new ModelFileException("JSON: nested deeper than " + DEEPEST + " at place " + at);
    }
    space();
    char first = peek();
    if (first == '{') {
      return object(depth);
    }
    if (first == '[') {
      return array(depth);
    }
    if (first == '"') {
      return string();
    }
    if (first == '-' || digit(first)) {
      return number();
    }
    for (Object[] word : new Object[][] {{"true", true}, {"false", false}, {"null", null}}) {
      if (text.startsWith((String) word[0], at)) {
        at += ((String) word[0]).length();
        return word[1];
      }
    }
    throw wrong("a value");
  }

  private Map<String, Object> object(int depth) throws ModelFileException {
    Map<String, Object> found = new LinkedHashMap<>();
    at++;
    space();
    if (taken('}')) {
      return found;
    }
    do {
      space();
      if (peek() != '"') {
        throw wrong("a name");
      }
      String name = string();
      space();
      if (!taken(':')) {
        throw wrong("':'");
      }
      Object value = value(depth + 1);
      if (found.containsKey(name)) {
        throw new ModelFileException("JSON: the name '" + name + "' comes twice");
      }
      found.put(name, value);
      space();
    } while (taken(','));
    if (!taken('}')) {
      throw wrong("',' or '}'");
    }
    return found;
  }

  private List<Object> array(int depth) throws ModelFileException {
    List<Object> found = new ArrayList<>();
    at++;
    space();
    if (taken(']')) {
      return found;
    }
    do {
      found.add(value(depth + 1));
      space();
    } while (taken(','));
    if (!taken(']')) {
      throw wrong("',' or ']'");
    }
    return found;
  }

  private String string() throws ModelFileException {
    StringBuilder found = new StringBuilder();
    at++;
    while (true) {
      char next = peek();
      if (next < ' ') {
        throw wrong("no control character");
      }
      at++;
      if (next == '"') {
        return found.toString();
      }
      found.append(next == '\\' ? escaped() : next);
    }
  }

  private char escaped() throws ModelFileException {
    char next = peek();
    at++;
    if (next == 'u') {
      int code = 0;
      for (int i = 0; i < 4; i++) {
        int digit = Character.digit(peek(), 16);
        if (digit < 0 || peek() > 'f') {
          throw wrong("four hexadecimal digits");
        }
        code = 16 * code + digit;
        at++;
      }
      return (char) code;
    }
    int which = "\"\\/bfnrt".indexOf(next);
    if (which < 0) {
      at--;
      throw wrong("an escape");
    }
    return "\"\\/\b\f\n\r\t".charAt(which);
  }

  private Double number() throws ModelFileException {
    int from = at;
    taken('-');
    if (!taken('0')) {
      digits();
    }
    if (taken('.')) {
      digits();
    }
    if (taken('e') || taken('E')) {
      if (!taken('-')) {
        taken('+');
      }
      digits();
    }
    return Double.valueOf(text.substring(from, at));
  }

  private void digits() throws ModelFileException {
    if (!digit(peek())) {
      throw wrong("a digit");
    }
    while (at < text.length() && digit(text.charAt(at))) {
      at++;
    }
  }

  private static boolean digit(char each) {
    return each >= '0' && each <= '9';
  }

  private void space() {
    while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
  }

  private boolean taken(char wanted) {
    boolean is = at < text.length() && text.charAt(at) == wanted;
    at += is ? 1 : 0;
    return is;
  }

  private char peek() throws ModelFileException {
    if (at >= text.length()) {
      throw new ModelFileException("JSON: cut off at place " + at);
    }
    return text.charAt(at);
  }

  private ModelFileException wrong(String expected) {
    return new ModelFileException("JSON: expected " + expected + " at place " + at);
  }
}
