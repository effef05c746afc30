package main

import (
	"bytes"
	"os"
	"testing"
)

// The test binary is also the server and the client.
func TestMain(m *testing.M) {
	if isRole(os.Args) {
		main()
	}
	os.Exit(m.Run())
}

// The file that was downloaded equals the uploaded one: run compares them.
func TestEveryRowBringsTheFileBack(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out, settings{size: 24 << 20, part: 8 << 20, parallel: 2, runs: 1, failing: 0.1}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, row := range []string{ours, manager, ours + ", 10% fail", manager + ", 10% fail"} {
		if !bytes.Contains(out.Bytes(), []byte(row+" ")) {
			t.Errorf("no row %q in\n%s", row, &out)
		}
	}
}
