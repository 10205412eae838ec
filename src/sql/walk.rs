//! From a syntax tree: which relations and columns are meant, and as what. Common table expressions and aliases are
//! resolved here; everything else about names needs the catalog.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Assignment, AssignmentTarget, BinaryOperator, Expr, FromTable, GroupByExpr, JoinConstraint,
    JoinOperator, ObjectName, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, TableObject, TableWithJoins, UpdateTableFromKind, Visit, Visitor,
};

use super::call::{called, folded, name_of, parts};
use super::facts::{Call, Facts, Operands, Predicate, Roles};
use super::operand::{conjuncts, operand};
use super::parse::Gap;

/// What a tree says beyond what its facts take: names that look like calls in the tokens and are none.
#[derive(Debug, Default)]
pub struct Named {
    /// Aliases, common table expressions, and what is inserted into.
    pub names: HashSet<String>,
}

/// Adds to `facts` what the tree says.
pub fn walk(statement: &Statement, facts: &mut Facts) -> Named {
    let mut walker = Walker {
        facts,
        named: Named::default(),
        calls: Vec::new(),
        predicates: Vec::new(),
        references: HashMap::new(),
        ctes: Vec::new(),
        visible: HashMap::new(),
        tables: Vec::new(),
        functions: HashSet::new(),
        targets: HashSet::new(),
        sorts: HashMap::new(),
        bodies: HashSet::new(),
        sorting: Vec::new(),
    };
    // Nothing breaks it off.
    let _ = statement.visit(&mut walker);
    let Walker { references, named, predicates, calls, .. } = walker;
    for call in calls {
        facts.call(call.name, call.arguments);
    }
    // Of a relation that is named twice, one place's condition says nothing about the other.
    facts.predicates = predicates.into_iter().filter(|p| references.get(&p.relation) == Some(&1)).collect();
    named
}

/// Relations that a part of a statement can name columns of: alias, and which relation it is if it is one.
type Tables = Vec<(String, Option<usize>)>;

struct Walker<'a> {
    facts: &'a mut Facts,
    named: Named,
    calls: Vec<Call>,
    predicates: Vec<Predicate>,
    /// How often each relation is named.
    references: HashMap<usize, usize>,
    /// Names of common table expressions, innermost query last.
    ctes: Vec<Vec<String>>,
    /// Those that a query inside WITH sees, by where it is.
    visible: HashMap<usize, Vec<String>>,
    tables: Vec<Tables>,
    /// Names that are no relations that are read, by where they are.
    functions: HashSet<usize>,
    targets: HashSet<usize>,
    /// ORDER BY of the select that comes next, by where that is.
    sorts: HashMap<usize, Vec<Expr>>,
    /// Selects that are all of a query but for its ORDER BY, which names the same tables, by where they are.
    bodies: HashSet<usize>,
    /// How many of `tables` there are in each ORDER BY that is being read.
    sorting: Vec<usize>,
}

/// Where a part of a tree is, as its identity while it is walked.
fn place<T>(part: &T) -> usize {
    std::ptr::from_ref(part) as usize
}

impl Walker<'_> {
    /// A relation's name: what it is, unless a common table expression hides it.
    fn relation(&mut self, name: &ObjectName) -> Option<usize> {
        let name = name_of(name)?;
        let hidden =
            name.schema.is_none() && self.ctes.last().is_some_and(|c| c.iter().any(|c| **c == *name.name));
        (!hidden).then(|| self.facts.relation(&name))
    }

    fn add_factor(&mut self, factor: &TableFactor, tables: &mut Tables) {
        let alias = match factor {
            TableFactor::Table { name, alias, args, .. } => {
                let relation = if args.is_none() { self.relation(name) } else { None };
                let own = parts(name).pop().unwrap_or_default();
                tables.push((alias.as_ref().map_or(own, |a| folded(&a.name)), relation));
                alias
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.add_tables(std::slice::from_ref(&**table_with_joins), tables);
                alias
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::Function { alias, .. } => {
                // Whose columns they have is not known here.
                tables.push((alias.as_ref().map_or(String::new(), |a| folded(&a.name)), None));
                alias
            }
            _ => {
                tables.push((String::new(), None));
                &None
            }
        };
        if let Some(alias) = alias {
            self.named.names.insert(folded(&alias.name));
        }
    }

    fn add_tables(&mut self, from: &[TableWithJoins], tables: &mut Tables) {
        for item in from {
            self.add_factor(&item.relation, tables);
            for join in &item.joins {
                self.add_factor(&join.relation, tables);
            }
        }
    }

    /// The relation and the column that an expression is, where that is certain.
    fn column(&self, expr: &Expr) -> Option<(usize, String)> {
        match expr {
            Expr::Nested(inner) => self.column(inner),
            Expr::Identifier(ident) => match self.tables.last()?.as_slice() {
                [(_, Some(relation))] => Some((*relation, folded(ident))),
                _ => None,
            },
            Expr::CompoundIdentifier(idents) => {
                let [.., table, column] = idents.as_slice() else { return None };
                let table = folded(table);
                // The innermost of that name.
                let found = self
                    .tables
                    .iter()
                    .rev()
                    .find_map(|tables| tables.iter().find(|(alias, _)| *alias == table));
                found.and_then(|(_, relation)| *relation).map(|relation| (relation, folded(column)))
            }
            _ => None,
        }
    }

    fn uses(&mut self, expr: &Expr, roles: Roles) {
        if let Some((relation, column)) = self.column(expr) {
            self.facts.column(relation, &column, roles);
        }
    }

    /// A column that is named somewhere. What ORDER BY names has been noted with its select; of what is in an expression there
    /// only what may be a function counts.
    fn read(&mut self, expr: &Expr) {
        let sorts = self.sorting.last() == Some(&self.tables.len());
        match (sorts, expr) {
            (false, _) => self.uses(expr, Roles::READ),
            (true, Expr::CompoundIdentifier(_)) => self.uses(expr, Roles::SORT),
            (true, _) => {}
        }
    }

    /// A condition: what its parts are compared with. `binding` where it must hold for every row.
    fn condition(&mut self, expr: &Expr, binding: bool) {
        let mut all = Vec::new();
        conjuncts(expr, &mut all);
        for part in all {
            match part {
                Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => self.equal(left, right, binding),
                Expr::InList { expr, list, negated: false } => {
                    self.uses(expr, Roles::EQUAL);
                    let operands: Option<Operands> = list.iter().map(operand).collect();
                    self.predicate(expr, operands.filter(|_| binding));
                }
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq,
                    right,
                } => {
                    self.uses(left, Roles::RANGE);
                    self.uses(right, Roles::RANGE);
                }
                Expr::Between { expr, .. } | Expr::Like { expr, .. } => self.uses(expr, Roles::RANGE),
                _ => {}
            }
        }
    }

    fn equal(&mut self, left: &Expr, right: &Expr, binding: bool) {
        let (a, b) = (self.column(left), self.column(right));
        let roles = if a.is_some() && b.is_some() { Roles::JOIN } else { Roles::EQUAL };
        self.uses(left, roles);
        self.uses(right, roles);
        if binding {
            self.predicate(left, operand(right).map(|o| Operands::from_iter([o])));
            self.predicate(right, operand(left).map(|o| Operands::from_iter([o])));
        }
    }

    fn predicate(&mut self, column: &Expr, operands: Option<Operands>) {
        if let (Some((relation, column)), Some(operands)) = (self.column(column), operands) {
            self.predicates.push(Predicate { relation, column: column.into(), operands });
        }
    }

    fn joins(&mut self, from: &[TableWithJoins]) {
        for join in from.iter().flat_map(|item| &item.joins) {
            let (constraint, inner) = match &join.join_operator {
                JoinOperator::Join(c) | JoinOperator::Inner(c) => (c, true),
                JoinOperator::Left(c)
                | JoinOperator::LeftOuter(c)
                | JoinOperator::Right(c)
                | JoinOperator::RightOuter(c)
                | JoinOperator::FullOuter(c) => (c, false),
                _ => continue,
            };
            if let JoinConstraint::On(condition) = constraint {
                self.condition(condition, inner);
            }
        }
    }

    fn assignments(&mut self, relation: Option<usize>, assignments: &[Assignment]) {
        let Some(relation) = relation else { return };
        for assignment in assignments {
            let names: &[ObjectName] = match &assignment.target {
                AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
                AssignmentTarget::Tuple(names) => names,
            };
            for name in names {
                if let Some(column) = parts(name).first() {
                    self.facts.column(relation, column, Roles::WRITTEN);
                }
            }
        }
    }

    fn insert(&mut self, insert: &sqlparser::ast::Insert) {
        let TableObject::TableName(name) = &insert.table else { return };
        let Some(target) = name_of(name) else { return };
        self.targets.insert(place(name));
        self.named.names.insert(target.name.to_string());
        let relation = self.facts.relation(&target);
        self.facts.relations[relation].written = true;
        *self.references.entry(relation).or_default() += 1;
        let columns: Vec<String> = insert.columns.iter().filter_map(|c| parts(c).pop()).collect();
        for column in &columns {
            self.facts.column(relation, column, Roles::WRITTEN);
        }
        let Some(SetExpr::Values(values)) = insert.source.as_ref().map(|q| &*q.body) else { return };
        for (i, column) in columns.iter().enumerate() {
            let operands: Option<Operands> =
                values.rows.iter().map(|row| row.get(i).and_then(operand)).collect();
            if let Some(operands) = operands {
                self.predicates.push(Predicate { relation, column: column.as_str().into(), operands });
            }
        }
        self.tables.push(vec![(target.name.to_string(), Some(relation))]);
        if let Some(sqlparser::ast::OnInsert::OnConflict(conflict)) = &insert.on
            && let sqlparser::ast::OnConflictAction::DoUpdate(update) = &conflict.action
        {
            self.assignments(Some(relation), &update.assignments);
        }
        self.tables.pop();
    }

    /// The table that UPDATE, DELETE or MERGE writes.
    fn target(&mut self, factor: &TableFactor) -> Option<usize> {
        let TableFactor::Table { name, .. } = factor else { return None };
        let target = name_of(name)?;
        self.targets.insert(place(name));
        let relation = self.facts.relation(&target);
        let known = &mut self.facts.relations[relation];
        (known.read, known.written) = (true, true);
        *self.references.entry(relation).or_default() += 1;
        Some(relation)
    }

    fn update(&mut self, update: &sqlparser::ast::Update) {
        let relation = self.target(&update.table.relation);
        let mut tables = Tables::new();
        self.add_factor(&update.table.relation, &mut tables);
        if let Some(table) = tables.first_mut() {
            table.1 = relation;
        }
        let from: &[TableWithJoins] = match &update.from {
            Some(UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from)) => from,
            None => &[],
        };
        self.add_tables(from, &mut tables);
        self.tables.push(tables);
        self.assignments(relation, &update.assignments);
        self.joins(from);
        if let Some(condition) = &update.selection {
            self.condition(condition, true);
        }
    }

    fn delete(&mut self, delete: &sqlparser::ast::Delete) {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let mut tables = Tables::new();
        for item in from {
            let relation = self.target(&item.relation);
            self.add_factor(&item.relation, &mut tables);
            if let Some(table) = tables.last_mut() {
                table.1 = relation;
            }
        }
        let using = delete.using.as_deref().unwrap_or_default();
        self.add_tables(using, &mut tables);
        self.tables.push(tables);
        self.joins(using);
        if let Some(condition) = &delete.selection {
            self.condition(condition, true);
        }
    }

    fn merge(&mut self, merge: &sqlparser::ast::Merge) {
        let relation = self.target(&merge.table);
        let mut tables = Tables::new();
        self.add_factor(&merge.table, &mut tables);
        if let Some(table) = tables.first_mut() {
            table.1 = relation;
        }
        self.add_factor(&merge.source, &mut tables);
        self.tables.push(tables);
        self.condition(&merge.on, false);
    }
}

impl Visitor for Walker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let outer = self.visible.remove(&place(query));
        let mut names = outer.unwrap_or_else(|| self.ctes.last().cloned().unwrap_or_default());
        if let Some(with) = &query.with {
            let all = with.cte_tables.iter().map(|cte| folded(&cte.alias.name));
            self.named.names.extend(all.clone());
            if with.recursive {
                names.extend(all);
                for cte in &with.cte_tables {
                    self.visible.insert(place(&*cte.query), names.clone());
                }
            } else {
                for (cte, name) in with.cte_tables.iter().zip(all) {
                    self.visible.insert(place(&*cte.query), names.clone());
                    names.push(name);
                }
            }
        }
        self.ctes.push(names);
        if let SetExpr::Select(select) = &*query.body {
            self.bodies.insert(place(&**select));
        }
        if let (SetExpr::Select(select), Some(OrderBy { kind: OrderByKind::Expressions(by), .. })) =
            (&*query.body, &query.order_by)
        {
            self.sorts.insert(place(&**select), by.iter().map(|by| by.expr.clone()).collect());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.ctes.pop();
        if let SetExpr::Select(_) = &*query.body {
            self.sorting.pop();
            self.tables.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let mut tables = Tables::new();
        self.add_tables(&select.from, &mut tables);
        self.tables.push(tables);
        self.joins(&select.from);
        if let Some(condition) = &select.selection {
            self.condition(condition, true);
        }
        if let GroupByExpr::Expressions(by, _) = &select.group_by {
            by.iter().for_each(|expr| self.uses(expr, Roles::GROUP));
        }
        if select.distinct.is_some() {
            for item in &select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    self.uses(expr, Roles::GROUP);
                }
            }
        }
        for expr in self.sorts.remove(&place(select)).unwrap_or_default() {
            self.uses(&expr, Roles::SORT);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        match self.bodies.remove(&place(select)) {
            true => self.sorting.push(self.tables.len()),
            false => drop(self.tables.pop()),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(args), .. } => {
                self.functions.insert(place(name));
                let arguments = u16::try_from(args.args.len()).ok();
                self.calls.extend(name_of(name).map(|name| Call { name, arguments }));
            }
            TableFactor::Function { name, args, .. } => {
                self.functions.insert(place(name));
                let arguments = u16::try_from(args.len()).ok();
                self.calls.extend(name_of(name).map(|name| Call { name, arguments }));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let at = place(name);
        if !self.functions.contains(&at)
            && !self.targets.contains(&at)
            && let Some(relation) = self.relation(name)
        {
            self.facts.relations[relation].read = true;
            *self.references.entry(relation).or_default() += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(_) => self.read(expr),
            Expr::CompoundIdentifier(idents) => match (self.column(expr), idents.last()) {
                (None, Some(name)) => self.facts.field(folded(name)),
                _ => self.read(expr),
            },
            Expr::CompoundFieldAccess { access_chain, .. } => {
                for access in access_chain {
                    match access {
                        AccessExpr::Dot(Expr::Identifier(name)) => self.facts.field(folded(name)),
                        // What that is, is not known.
                        AccessExpr::Dot(_) => self.facts.gap = Some(Gap::Syntax),
                        AccessExpr::Subscript(_) => {}
                    }
                }
            }
            Expr::Function(function) => self.calls.extend(called(function)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            Statement::Merge(merge) => self.merge(merge),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        if matches!(statement, Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_)) {
            self.tables.pop();
        }
        ControlFlow::Continue(())
    }
}
