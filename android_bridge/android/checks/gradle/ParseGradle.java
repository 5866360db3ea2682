import java.io.File;
import org.codehaus.groovy.control.CompilationUnit;
import org.codehaus.groovy.control.Phases;

/**
 * Whether Gradle's files are Groovy: parsed to syntax trees, as Gradle begins, and not run, for Gradle and the Android
 * plugin are not here. `java -cp groovy-all.jar ParseGradle.java FILE ...` ends with 1 and the place where one is not.
 */
public final class ParseGradle {
  public static void main(String[] files) {
    if (files.length == 0) { // a search that found nothing has checked nothing
      System.err.println("gradle: got no files, expected some");
      System.exit(1);
    }
    for (String file : files) {
      CompilationUnit unit = new CompilationUnit(); // one each: each becomes a class of its file's name
      unit.addSource(new File(file));
      unit.compile(Phases.CONVERSION);
    }
    System.out.println("gradle: " + files.length + " files parse");
  }
}
