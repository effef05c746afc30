package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Under the race detector every process would wait for a second at its end.
const noRaceDelay = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"perdure": main})
}

// TestScript runs the command as its users do. Each script says what it is about.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, noRaceDelay)
			return nil
		},
	})
}
