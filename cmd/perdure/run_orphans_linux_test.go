package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// No process but the first process waits for those whose parents have ended: as that of a container, run left a zombie for
// each, until there was no room for more processes. It waits for them while an attempt runs, and between two.
func TestOrphansAreReaped(t *testing.T) {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip(err)
	}
	unshared := []string{"--user", "--map-root-user", "--pid", "--fork", "--mount-proc"}
	if out, err := exec.CommandContext(t.Context(), unshare, append(unshared, "true")...).CombinedOutput(); err != nil {
		t.Skipf("no process can be the first here: %s", out)
	}
	// Orphans are called sleep. As long as one of them is there, dead or alive, the system has its name.
	const gone = `gone() { for n in $(seq 1000); do grep -qs "^Name:.sleep" /proc/[0-9]*/status || return 0; kill -0 1; done; grep -h "^State" $(grep -ls "^Name:.sleep" /proc/[0-9]*/status); return 1; }; `
	for _, row := range []struct{ name, script string }{
		{"while an attempt runs", gone + `for n in $(seq 20); do sh -c "sleep 0.1 &"; done; gone`},
		{"between two", gone + `test $PERDURE_ATTEMPT = 2 && { grep -qs zombie $(grep -ls "^Name:.sleep" /proc/[0-9]*/status) /dev/null && exit 3; exit 0; }; setsid sh -c "sleep 0.1 &"; exit 1`},
	} {
		c := command(t, []string{noRaceDelay}, append([]string{"run", "--base-delay", "0.4", "--jitter", "0", "--stop-on-exit", "3", "--max-attempts", "2", "--"}, "bash", "-c", row.script)...)
		c.Args = append(append([]string{unshare}, unshared...), c.Args...)
		c.Args[len(unshared)+1] = c.Path
		c.Path = unshare
		c.Env = append(c.Env, "PATH="+filepath.Dir(unshare)+":"+os.Getenv("PATH"))
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Run(); err != nil {
			t.Errorf("%s: %v\n%s", row.name, err, &out)
		}
	}
}
