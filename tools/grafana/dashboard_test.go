// Package grafana_test reads the dashboard as Grafana's own types have it.
package grafana_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// The dashboard has no field that Grafana does not know, lacks none that it requires, and meets its constraints: so say
// Grafana's types of the dashboard, of each panel's options and of each query. Panels of other types would be read loosely.
func TestGrafanaKnowsEachField(t *testing.T) {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	content, err := os.ReadFile("../../docs/grafana/perdure.json")
	if err != nil {
		t.Fatal(err)
	}
	var page dashboard.Dashboard //nolint:staticcheck // version 1, which each Grafana imports
	// Without a fault the error is an empty list, not nil, and what panels have is missing: it is read again below.
	if err := page.UnmarshalJSONStrict(content); err != nil && err.Error() != "" {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &page); err != nil {
		t.Fatal(err)
	}
	if err := page.Validate(); err != nil {
		t.Error(err)
	}
	queries := 0
	for _, p := range page.Panels {
		if p.Panel == nil { // a row
			continue
		}
		switch p.Panel.Options.(type) {
		case *timeseries.Options, *statetimeline.Options:
		default:
			t.Errorf("panel %s: options of type %T are not checked", *p.Panel.Title, p.Panel.Options)
		}
		for _, q := range p.Panel.Targets {
			if _, ok := q.(*prometheus.Dataquery); ok {
				queries++
			} else {
				t.Errorf("panel %s: a query of type %T is not checked", *p.Panel.Title, q)
			}
		}
	}
	if queries < 20 {
		t.Errorf("%d queries were read", queries)
	}
}
