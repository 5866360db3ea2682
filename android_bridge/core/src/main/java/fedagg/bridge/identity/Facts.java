package fedagg.bridge.identity;

import java.security.cert.CertificateParsingException;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.regex.Pattern;

/** What a node's certificate says about its owner, read as strictly as docs/identity.md has it. */
public final class Facts {
  private static final Pattern NODE = Pattern.compile("[a-z0-9][a-z0-9._-]{0,63}");
  private static final int URI = 6; // GeneralName's number of a URI

  public final String node;
  /** device, edge or cloud. */
  public final String role;

  public final String federation;

  private Facts(String node, String role, String federation) {
    this.node = node;
    this.role = role;
    this.federation = federation;
  }

  /** Of a leaf whose signatures have been checked. */
  static Facts of(X509Certificate leaf) throws IdentityException {
    List<String> subject = DistinguishedName.read(leaf.getSubjectX500Principal().getEncoded());
    List<String> issuer = DistinguishedName.read(leaf.getIssuerX500Principal().getEncoded());
    String[] own = values(subject, new String[] {"O", "OU", "CN"}, "subject");
    String[] above = values(issuer, new String[] {"O", "OU", "CN", "serialNumber"}, "issuer");
    Facts found = new Facts(own[2], own[1], own[0]);
    for (String name : new String[] {own[0], own[2], above[2]}) {
      if (!NODE.matcher(name).matches()) {
        throw new IdentityException("certificate: got the name " + name + ", which no node or federation can have");
      }
    }
    if (!above[0].equals(own[0])) {
      throw new IdentityException("certificate of " + own[2] + ": of federation " + own[0] + ", signed in " + above[0]);
    }
    boolean device = found.role.equals("device");
    if (!device && !found.role.equals("edge") && !found.role.equals("cloud")) {
      throw new IdentityException("certificate of " + own[2] + ": got role " + found.role);
    }
    boolean anyRole = above[1].equals("root") || above[1].equals("cloud-issuer");
    if (!anyRole && !(device && above[1].equals("edge-issuer"))) {
      throw new IdentityException("certificate of " + own[2] + ": a " + above[1] + " may not sign for a " + found.role);
    }
    String wanted = "fedagg://" + found.federation + "/" + found.role + "/" + found.node;
    List<String> uris = uris(leaf);
    if (uris.size() != 1 || !uris.get(0).equals(wanted)) {
      throw new IdentityException("certificate of " + own[2] + ": got names " + uris + ", expected " + wanted);
    }
    return found;
  }

  private static String[] values(List<String> name, String[] wanted, String what) throws IdentityException {
    String[] found = new String[wanted.length];
    boolean fits = name.size() == wanted.length;
    for (int i = 0; fits && i < wanted.length; i++) {
      fits = name.get(i).startsWith(wanted[i] + "=");
      found[i] = fits ? name.get(i).substring(wanted[i].length() + 1) : null;
    }
    if (!fits) {
      throw new IdentityException(
          "certificate: " + what + " has " + name.size() + " parts, expected " + String.join(", ", wanted)
              + " in this order");
    }
    return found;
  }

  private static List<String> uris(X509Certificate leaf) throws IdentityException {
    List<String> found = new ArrayList<>();
    try {
      Collection<List<?>> names = leaf.getSubjectAlternativeNames();
      if (names != null) {
        for (List<?> each : names) {
          if (each.get(0).equals(URI)) {
            found.add((String) each.get(1));
          }
        }
      }
    } catch (CertificateParsingException error) {
      throw new IdentityException("certificate: alternative names that cannot be read", error);
    }
    return found;
  }
}
