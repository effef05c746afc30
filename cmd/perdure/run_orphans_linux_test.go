package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	const (
		// Orphans are called sleep. As long as one of them is there, dead or alive, the system has its name.
		gone = `gone() { for n in $(seq 1000); do grep -qs "^Name:.sleep" /proc/[0-9]*/status || return 0; kill -0 1; done; grep -h "^State" $(grep -ls "^Name:.sleep" /proc/[0-9]*/status); return 1; }; `
		// An orphan of the attempt waits until the attempt has ended, makes another one, waits until that is gone, and ends the run.
		watch = `while kill -0 $$; do sleep 0.01; done 2>/dev/null; orphan=$(sleep 0.1 >/dev/null & echo $!); ` +
			`for n in $(seq 1000); do kill -0 $orphan 2>/dev/null || { echo gone; break; }; sleep 0.01; done; kill -TERM 1`
	)
	for _, row := range []struct {
		name, script string
		code         int
		says         string
	}{
		{"while an attempt runs", gone + `for n in $(seq 20); do sh -c "sleep 0.1 &"; done; gone`, 0, ""},
		{"between two", `{ ` + watch + `; } & exit 1`, 143, "gone\n"},
	} {
		c := command(t, []string{noRaceDelay}, append([]string{"run", "--base-delay", "90", "--max-attempts", "2", "--"}, "bash", "-c", row.script)...)
		c.Args = append(append([]string{unshare}, unshared...), c.Args...)
		c.Args[len(unshared)+1] = c.Path
		c.Path = unshare
		c.Env = append(c.Env, "PATH="+filepath.Dir(unshare)+":"+os.Getenv("PATH"))
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		_ = c.Run() // the code tells
		if code := c.ProcessState.ExitCode(); code != row.code || !strings.Contains(out.String(), row.says) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s", row.name, code, row.code, row.says, &out)
		}
	}
}
