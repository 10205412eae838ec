//! Dashboards as they are in `config/grafana`: what they ask, and whether Grafana would show them as they were meant.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// One query of a dashboard.
#[derive(Clone, Debug)]
pub struct Query {
    /// Dashboard and panel.
    pub place: String,
    /// In PromQL, with nothing left to fill in.
    pub expr: String,
    /// Whether it asks for now rather than for a time.
    pub now: bool,
}

/// A dashboard.
#[derive(Debug)]
pub struct Board {
    /// Its file, without the ending.
    pub name: String,
    json: Value,
}

/// All that there are.
#[track_caller]
pub fn all() -> Vec<Board> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/grafana/dashboards");
    let mut boards: Vec<Board> = fs::read_dir(dir)
        .expect("dashboards")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("a file");
            let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            Board { name, json }
        })
        .collect();
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    boards
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What Grafana puts in for variables where all of everything is chosen and each second is scraped.
fn filled_in(expr: &str, variables: &[String]) -> String {
    let mut expr = expr.to_string();
    for (name, value) in [("__rate_interval", "4s"), ("__range", "30s"), ("__interval", "1s")] {
        expr = expr.replace(&format!("${name}"), value);
    }
    variables.iter().fold(expr, |expr, name| expr.replace(&format!("${name}\""), ".*\""))
}

impl Board {
    fn variables(&self) -> Vec<String> {
        list(&self.json["templating"]["list"]).map(|v| text(&v["name"]).to_string()).collect()
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["panels"]).filter(|panel| text(&panel["type"]) != "row")
    }

    /// Queries of panels.
    pub fn queries(&self) -> Vec<Query> {
        let variables = self.variables();
        let of_panel = |panel: &Value| {
            let place = format!("{}: {}", self.name, text(&panel["title"]));
            let query = |target: &Value| Query {
                place: place.clone(),
                expr: filled_in(text(&target["expr"]), &variables),
                now: target["instant"] == true,
            };
            list(&panel["targets"]).map(query).collect::<Vec<_>>()
        };
        self.panels().flat_map(of_panel).collect()
    }

    /// Queries that need not find anything: of what has happened.
    pub fn annotations(&self) -> Vec<String> {
        let all = list(&self.json["annotations"]["list"]);
        all.map(|a| filled_in(text(&a["expr"]), &self.variables())).collect()
    }

    /// What the choices of each variable are made of: series, and the label that is shown.
    pub fn choices(&self) -> Vec<(String, String)> {
        let chosen = list(&self.json["templating"]["list"]).filter(|v| text(&v["type"]) == "query");
        chosen
            .map(|v| {
                let query = text(&v["query"]["query"]);
                assert_eq!(query, text(&v["definition"]), "{}", self.name);
                let within = |function: &str| query.strip_prefix(function).and_then(|q| q.strip_suffix(')'));
                let labelled = within("label_values(").and_then(|q| q.rsplit_once(", "));
                let named = || within("query_result(").map(|q| (q, text(&v["name"])));
                let (series, label) = labelled.or_else(named).expect(query);
                (filled_in(series, &self.variables()), label.to_string())
            })
            .collect()
    }

    /// What is wrong with it, whatever it finds.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.head();
        self.panels().for_each(|panel| problems.extend(panel_problems(panel)));
        problems.extend(self.places());
        problems.extend(self.unknown_variables());
        problems.into_iter().map(|problem| format!("{}: {problem}", self.name)).collect()
    }

    fn head(&self) -> Vec<String> {
        let json = &self.json;
        let mut problems = Vec::new();
        let mut must = |holds: bool, what: &str| (!holds).then(|| problems.push(what.to_string()));
        must(text(&json["uid"]) == format!("turnpike-{}", self.name), "its uid is not its file's name");
        must(text(&json["title"]).starts_with("Turnpike / "), "its title does not begin as the others'");
        must(text(&json["description"]).ends_with('.'), "it does not say what it is for");
        must(json["schemaVersion"].as_u64().is_some_and(|v| v >= 38), "its schema is too old");
        must(json["tags"][0] == "turnpike", "it lacks the tag by which the others link to it");
        must(json["templating"]["list"][0]["type"] == "datasource", "its data source cannot be chosen");
        must(json.get("id").is_none(), "an id of its own collides with those that are there");
        problems
    }

    /// Ids, and places in the grid.
    fn places(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (mut ids, mut taken) = (HashSet::new(), HashSet::new());
        for panel in list(&self.json["panels"]) {
            let title = text(&panel["title"]);
            if !panel["id"].as_u64().is_some_and(|id| id > 0 && ids.insert(id)) {
                problems.push(format!("{title}: its id is not its own"));
            }
            let at = |key: &str| panel["gridPos"][key].as_u64();
            let (Some(x), Some(y), Some(w), Some(h)) = (at("x"), at("y"), at("w"), at("h")) else {
                problems.push(format!("{title}: it has no place"));
                continue;
            };
            if w == 0 || h == 0 || x + w > 24 {
                problems.push(format!("{title}: the grid is 24 wide"));
            }
            let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            if cells.filter(|cell| !taken.insert(*cell)).count() > 0 {
                problems.push(format!("{title}: it lies over another"));
            }
        }
        problems
    }

    fn unknown_variables(&self) -> Vec<String> {
        let variables = self.variables();
        let mut problems: Vec<String> = self
            .queries()
            .into_iter()
            .filter(|query| query.expr.contains('$'))
            .map(|query| format!("{}: a variable that there is not: {}", query.place, query.expr))
            .collect();
        let all = self.json.to_string();
        let unused = variables.iter().filter(|v| !all.contains(&format!("=~\\\"${v}\\\"")));
        problems.extend(unused.filter(|v| *v != "datasource").map(|v| format!("${v} changes nothing")));
        problems
    }
}

fn panel_problems(panel: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let title = text(&panel["title"]);
    let mut must = |holds: bool, what: &str| (!holds).then(|| problems.push(format!("{title}: {what}")));
    let source =
        |v: &Value| v["datasource"]["uid"] == "${datasource}" && v["datasource"]["type"] == "prometheus";
    must(!title.is_empty(), "it has no title");
    must(text(&panel["description"]).ends_with('.'), "it does not say what it shows");
    must(source(panel) && list(&panel["targets"]).all(source), "its data source cannot be chosen");
    let unit = match text(&panel["type"]) {
        "heatmap" => &panel["options"]["yAxis"]["unit"],
        // Each column has its own.
        "table" => &panel["fieldConfig"]["overrides"][0]["properties"][0]["value"],
        // States are words.
        "state-timeline" => &panel["fieldConfig"]["defaults"]["mappings"][0]["type"],
        _ => &panel["fieldConfig"]["defaults"]["unit"],
    };
    must(!text(unit).is_empty(), "its numbers have no unit");
    let refs: HashSet<&str> = list(&panel["targets"]).map(|t| text(&t["refId"])).collect();
    let targets = list(&panel["targets"]).count();
    must(targets > 0 && refs.len() == targets, "its queries have no names of their own");
    if let Some(steps) = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array() {
        let values: Vec<Option<f64>> = steps.iter().map(|s| s["value"].as_f64()).collect();
        let rising = values.windows(2).all(|pair| pair[1].is_some() && pair[0] < pair[1]);
        must(values.first() == Some(&None) && rising, "its thresholds do not rise from nothing");
    }
    problems
}
