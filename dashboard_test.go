package perdure_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The pages that Prometheus and Grafana read.
const (
	dashboardFile = "docs/grafana/perdure.json"
	rulesFile     = "docs/grafana/perdure.rules.yml"
)

// A panel is what the tests read of a panel of the dashboard.
type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat, RefID string }
	Datasource  struct{ Type, UID string }
}

func dashboard(t *testing.T) (panels []panel, text string) {
	t.Helper()
	content, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var page struct{ Panels []panel }
	if err := json.Unmarshal(content, &page); err != nil {
		t.Fatal(err)
	}
	return page.Panels, string(content)
}

// alertExpr is an alert of the rules with its expression, which may be folded over lines.
var alertExpr = regexp.MustCompile(`(?m)^      - alert: (\w+)\n        expr: (?:>-\n)?((?:.+\n)+?)(?:        for: .*\n)?        labels: \{severity: (?:info|warning|critical)\}\n        annotations:\n          summary: ".+"\n          description: ".+"\n`)

// alerts returns the expressions of the alerts by name.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range alertExpr.FindAllStringSubmatch(string(content), -1) {
		all[m[1]] = m[2]
	}
	if n := strings.Count(string(content), "- alert:"); n != len(all) || n == 0 {
		t.Fatalf("%s has %d alerts, of which %d have an expression, a severity, a summary and a description", rulesFile, n, len(all))
	}
	return all
}

// Each panel says what it shows, in which unit, and from where.
func TestDashboardIsComplete(t *testing.T) {
	panels, text := dashboard(t)
	units := []string{"ops", "percentunit", "none", "short", "s", "Bps"}
	var ids []int
	var titles []string
	for i, p := range panels {
		if slices.Contains(ids, p.ID) || slices.Contains(titles, p.Title) || p.Title == "" {
			t.Errorf("panel %d: the ID %d and the title %q are not its own", i, p.ID, p.Title)
		}
		ids, titles = append(ids, p.ID), append(titles, p.Title)
		for _, q := range panels[:i] {
			a, b := p.GridPos, q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panel %q lies upon %q", p.Title, q.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
			t.Errorf("panel %q: the unit is %q, want one of %q", p.Title, p.FieldConfig.Defaults.Unit, units)
		}
		if len(p.Description) < 30 || !strings.HasSuffix(p.Description, ".") {
			t.Errorf("panel %q: no description in sentences: %q", p.Title, p.Description)
		}
		if len(p.Targets) == 0 || p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q has %d targets, of %v", p.Title, len(p.Targets), p.Datasource)
		}
		for _, q := range p.Targets {
			if !strings.Contains(q.Expr, `job=~"$job"`) || !strings.Contains(q.LegendFormat, "{{") {
				t.Errorf("panel %q: a query without the variable job, or without a legend: %s, %s", p.Title, q.Expr, q.LegendFormat)
			}
		}
	}
	if len(panels) < 20 {
		t.Errorf("%d panels", len(panels))
	}
	for _, name := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains([]string{"__rate_interval", "__all"}, name[1]) && !strings.Contains(text, `"name": "`+name[1]+`"`) {
			t.Errorf("the dashboard has no variable %s", name[0])
		}
	}
}

var ownMetric = regexp.MustCompile(`\bperdure_[a-z_]+`)

// The dashboard and the alerts name only metrics that docs/metrics.md lists, and docs/dashboards.md describes each alert.
func TestDashboardNamesDocumentedMetrics(t *testing.T) {
	listed, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	described, err := os.ReadFile("docs/dashboards.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text := dashboard(t)
	for name, expr := range alerts(t) {
		text += expr
		if !strings.Contains(string(described), "`"+name+"`") {
			t.Errorf("docs/dashboards.md does not describe %s", name)
		}
	}
	for _, name := range ownMetric.FindAllString(text, -1) {
		base := strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_total")
		if !strings.Contains(string(listed), base) {
			t.Errorf("docs/metrics.md does not list %s", name)
		}
	}
}
