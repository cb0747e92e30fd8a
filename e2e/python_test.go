package e2e

import (
	"strings"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

// python is the system's, because the clients come as its packages.
const python = "/usr/bin/python3"

func TestPythonClientsReadWhatTheyWrote(t *testing.T) {
	node := testkit.StartNode(t)
	for _, program := range []string{"kafka_python.py", "confluent_kafka_python.py"} {
		t.Run(strings.TrimSuffix(program, ".py"), func(t *testing.T) {
			topic := strings.TrimSuffix(program, ".py")
			createTopic(t, node, topic, 3)
			out := testkit.Command(t, "", python, "testdata/"+program, node.Kafka, topic)
			if !strings.HasSuffix(out, "3000 records read back\n") {
				t.Errorf("%s said %q", program, out)
			}
		})
	}
}
