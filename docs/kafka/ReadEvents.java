import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints the events of a Tidemark topic from its beginning to its end: partition, offset, stream, version, type, data.
 * An ordinary consumer with the reader's rule about claims (docs/wire-formats.md). Needs kafka-clients on the class path.
 *
 *   java ReadEvents.java localhost:9092 shop.order.events
 */
public final class ReadEvents {
    public static void main(String[] args) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("key.deserializer", StringDeserializer.class.getName());
        settings.put("value.deserializer", StringDeserializer.class.getName());
        // The log is read as it stands: an open transaction of somebody else must not hold it up.
        settings.put("isolation.level", "read_uncommitted");
        settings.put("enable.auto.commit", "false");
        // Never a silent reset: a gap is an error.
        settings.put("auto.offset.reset", "none");

        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings)) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(args[1]).forEach(each -> partitions.add(new TopicPartition(each.topic(), each.partition())));
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            Map<TopicPartition, Reader> readers = new HashMap<>();
            consumer.assign(partitions);
            // From the beginning: what counts depends on the claims before it.
            for (TopicPartition partition : partitions) {
                consumer.seek(partition, 0);
                readers.put(partition, new Reader());
            }
            while (partitions.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    readers.get(new TopicPartition(record.topic(), record.partition())).read(record).forEach(ReadEvents::print);
                }
            }
        }
    }

    /** One partition. */
    private static final class Reader {
        /** The claim in force: that of the last claim record. */
        private String claim;
        /** All claims that were made: one that stands again is a repetition. */
        private final Set<String> claims = new HashSet<>();
        /** Ids of the events of each stream, in the order of their versions. */
        private final Map<String, List<String>> streams = new HashMap<>();
        /** The append that is being read, as far as it goes. */
        private List<ConsumerRecord<String, String>> open = new ArrayList<>();

        /** The events that count from this record on; with the last event of an append all of it. */
        List<ConsumerRecord<String, String>> read(ConsumerRecord<String, String> record) {
            String named = header(record, "tm-claim");
            if ("claim".equals(header(record, "tm-kind"))) {
                if (claims.add(named)) claim = named;
                open.clear();
                return List.of();
            }
            // Rule 1: a record counts only if it names the last claim before it.
            if (claim == null || !claim.equals(named) || record.key() == null) {
                open.clear();
                return List.of();
            }
            // Rule 2: an append counts whole or not at all. "2/3" is the second of three; without the header the event is alone.
            String append = header(record, "tm-append");
            int index = append == null ? 1 : Integer.parseInt(append.substring(0, append.indexOf('/')));
            int size = append == null ? 1 : Integer.parseInt(append.substring(append.indexOf('/') + 1));
            if (index == 1) open.clear();
            if (open.size() != index - 1 || (index > 1 && !open.get(0).key().equals(record.key()))) {
                open.clear();
                return List.of();
            }
            open.add(record);
            if (index < size) return List.of();
            List<ConsumerRecord<String, String>> whole = open;
            open = new ArrayList<>();
            whole.removeIf(this::isRepeated);
            return whole;
        }

        /** Rule 5: the versions of a stream come as 1, 2, 3; what stands twice counts once. */
        private boolean isRepeated(ConsumerRecord<String, String> event) {
            List<String> ids = streams.computeIfAbsent(event.key(), stream -> new ArrayList<>());
            int version = Integer.parseInt(header(event, "tm-version"));
            String id = header(event, "tm-id");
            if (version <= ids.size() && ids.get(version - 1).equals(id)) return true;
            if (version != ids.size() + 1) {
                throw new IllegalStateException("offset " + event.offset() + " of partition " + event.partition() + " is version " + version + " of " + event.key() + ", which ends at " + ids.size());
            }
            ids.add(id);
            return false;
        }
    }

    private static String header(ConsumerRecord<String, String> record, String name) {
        Header found = record.headers().lastHeader(name);
        return found == null ? null : new String(found.value(), StandardCharsets.UTF_8);
    }

    private static void print(ConsumerRecord<String, String> event) {
        System.out.println(String.join("\t", String.valueOf(event.partition()), String.valueOf(event.offset()), event.key(), header(event, "tm-version"), header(event, "tm-type"), event.value()));
    }
}
