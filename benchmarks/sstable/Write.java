import java.io.File;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Date;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.db.marshal.CompositeType;
import org.apache.cassandra.db.marshal.UTF8Type;
import org.apache.cassandra.dht.Murmur3Partitioner;
import org.apache.cassandra.io.sstable.CQLSSTableWriter;

/**
 * Writes one SSTable of a layout of benchmarks/read/load.py: FOLDER LAYOUT CREATE-TABLE INSERT PARTITIONS ROWS-OF-ONE TIMESTAMP.
 * Partitions come in the order of their tokens, so no more than one is in memory.
 */
public class Write {
    static final long START = 1704067200000L; // 2024-01-01T00:00Z
    static final Murmur3Partitioner RING = Murmur3Partitioner.instance;

    public static void main(String[] a) throws Exception {
        new File(a[0]).mkdirs();
        DatabaseDescriptor.toolInitialization(); // with the server's settings, so in the version that it reads
        boolean wide = a[1].equals("wide_features");
        int partitions = Integer.parseInt(a[4]), rows = Integer.parseInt(a[5]);
        long timestamp = Long.parseLong(a[6]);
        CQLSSTableWriter writer = CQLSSTableWriter.builder().inDirectory(a[0]).forTable(a[2])
            .using(a[3] + " USING TIMESTAMP " + timestamp).withPartitioner(RING).sorted().build();
        int[] order = IntStream.range(0, partitions).boxed()
            .sorted(Comparator.comparing(p -> RING.decorateKey(wide ? utf8(entity(p)) : composite(p))))
            .mapToInt(p -> p).toArray();
        for (int p : order)
            for (int i = 0; i < rows; i++)
                writer.addRow(wide ? wideRow(p, i) : row(p, i));
        writer.close();
        System.exit(0);
    }

    static Object[] row(int p, int i) {
        String user = String.format("u%03d", noise(i) % 1000);
        boolean full = i % 2 == 1; // the others have no user and no map, which leaves no tombstone
        Object absent = CQLSSTableWriter.UNSET_VALUE;
        return new Object[] {
            model(p), feature(p), new Date(START + i * 60000L), noise(p, i) / 1000.0,
            full ? Map.of("user_id", user, "unit", "C") : absent, full ? user : absent};
    }

    static Object[] wideRow(int p, int i) {
        Object[] found = new Object[22];
        found[0] = entity(p);
        found[1] = new Date(START + i * 60000L);
        for (int j = 0; j < 20; j++) {
            long n = noise(p, i, j);
            found[2 + j] = j < 15 ? (Object) (n / 1000.0) : j < 18 ? (Object) n : String.format("category_%02d", n % 100);
        }
        return found;
    }

    static String model(int p) { return String.format("m%03d", p / 20); }

    static String feature(int p) { return String.format("feature_%02d", p % 20); }

    static String entity(int p) { return String.format("e%06d", p); }

    static ByteBuffer utf8(String text) { return UTF8Type.instance.decompose(text); }

    static ByteBuffer composite(int p) {
        return CompositeType.getInstance(UTF8Type.instance, UTF8Type.instance).decompose(model(p), feature(p));
    }

    static long noise(int... numbers) {
        long value = 0;
        for (int number : numbers) {
            value = ((value ^ number) * 2654435761L) & 0xFFFFFFFFL;
            value ^= value >> 15;
        }
        return value;
    }
}
