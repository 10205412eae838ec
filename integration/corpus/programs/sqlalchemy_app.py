"""A tour of SQLAlchemy: Core and ORM, over psycopg. What it sends is recorded; nothing is checked. PG* variables say
where to."""

import datetime
import decimal
import enum
import uuid

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import func
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    column_property,
    contains_eager,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
    with_loader_criteria,
    with_polymorphic,
)

DAY = datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc)


class Base(DeclarativeBase):
    pass


class State(enum.Enum):
    draft = "draft"
    sent = "sent"
    paid = "paid"


tagging = sa.Table(
    "invoice_tag",
    Base.metadata,
    sa.Column("invoice_id", sa.ForeignKey("billing.invoice.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("tag.id"), primary_key=True),
)


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(sa.Identity(always=False), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), unique=True)
    key: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid())
    born: Mapped[datetime.date | None]
    data: Mapped[dict] = mapped_column(pg.JSONB, default=dict)
    emails: Mapped[list[str]] = mapped_column(pg.ARRAY(sa.Text), default=list)
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("customer.id"))
    children: Mapped[list["Customer"]] = relationship(back_populates="parent")
    parent: Mapped["Customer | None"] = relationship(back_populates="children", remote_side=id)
    invoices: Mapped[list["Invoice"]] = relationship(back_populates="customer", cascade="all, delete-orphan")

    @hybrid_property
    def shout(self):
        return self.name.upper()

    @shout.inplace.expression
    @classmethod
    def _shout(cls):
        return func.upper(cls.name)


class Invoice(Base):
    __tablename__ = "invoice"
    __table_args__ = (
        sa.CheckConstraint("total >= 0", name="total_positive"),
        sa.Index("invoice_open", "customer_id", postgresql_where=sa.text("state <> 'paid'")),
        sa.Index("invoice_note", sa.text("lower(note) text_pattern_ops")),
        {"schema": "billing", "comment": "what customers owe"},
    )
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"))
    state: Mapped[State] = mapped_column(default=State.draft)
    total: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(12, 2), default=0)
    note: Mapped[str] = mapped_column(sa.Text, default="", comment="free text")
    made: Mapped[datetime.datetime] = mapped_column(sa.DateTime(timezone=True), server_default=func.now())
    gross: Mapped[decimal.Decimal] = mapped_column(sa.Numeric, sa.Computed("total * 1.19", persisted=True))
    version: Mapped[int] = mapped_column(default=1)
    customer: Mapped[Customer] = relationship(back_populates="invoices")
    lines: Mapped[list["Line"]] = relationship(order_by="Line.position", cascade="all, delete-orphan")
    tags: Mapped[list["Tag"]] = relationship(secondary=tagging, lazy="selectin")
    __mapper_args__ = {"version_id_col": version}


class Line(Base):
    __tablename__ = "line"
    __table_args__ = {"schema": "billing"}
    invoice_id: Mapped[int] = mapped_column(sa.ForeignKey("billing.invoice.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str]
    amount: Mapped[int] = mapped_column(sa.SmallInteger)
    price: Mapped[float]


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(sa.Sequence("item_number", start=1000), primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}


class Book(Item):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(sa.ForeignKey("item.id"), primary_key=True)
    pages: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "book"}


class Film(Item):
    minutes: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "film"}


Customer.owes = column_property(
    sa.select(func.coalesce(func.sum(Invoice.total), 0))
    .where(Invoice.customer_id == Customer.id, Invoice.state != State.paid)
    .correlate_except(Invoice)
    .scalar_subquery(),
    deferred=True,
)


def fill(session):
    names = ["Ada", "Grace", "O'Hara", 'Quote"s', "Ünïcode", "back\\slash", "semi;colon", "-- dash", "100%"]
    people = [
        Customer(name=n, data={"rank": i, "tags": ["a", n]}, emails=[f"{i}@example.org"]) for i, n in enumerate(names)
    ]
    people[1].parent = people[0]
    people[2].parent = people[1]
    tags = [Tag(name=n) for n in ("new", "late", "big")]
    for i, person in enumerate(people):
        lines = [Line(position=p, what=f"thing {p}", amount=p + 1, price=1.5 * p) for p in range(i % 3)]
        person.invoices.append(Invoice(total=10 * i, note=f"Note {i}", lines=lines, tags=tags[: i % 4]))
    session.add_all(people)
    session.add_all([Book(title="A book", pages=100), Film(title="A film", minutes=90), Item(title="A thing")])
    session.commit()
    return people


def queries(session):
    c, i = aliased(Customer, name="c"), Invoice
    total = func.sum(i.total).label("total")
    newest = sa.select(i).where(i.customer_id == c.id).order_by(i.made.desc()).limit(2).lateral("newest")
    top = sa.select(Customer.id, Customer.parent_id, sa.literal(0).label("depth")).where(Customer.parent_id.is_(None))
    tree = top.cte("tree", recursive=True)
    tree = tree.union_all(
        sa.select(Customer.id, Customer.parent_id, tree.c.depth + 1).join(tree, Customer.parent_id == tree.c.id)
    )
    sums = sa.select(i.customer_id, total).group_by(i.customer_id).cte("sums")
    window = {"partition_by": i.customer_id, "order_by": i.made.desc()}
    values = sa.values(sa.column("a", sa.Integer), sa.column("b", sa.String), name="v").data([(1, "x"), (2, "y")])
    series = func.generate_series(1, 3).table_valued("n").render_derived()
    yield sa.select(Customer)
    yield sa.select(Customer.id, Customer.name).order_by(Customer.name.desc().nulls_last()).limit(5).offset(2)
    yield sa.select(Customer).where(Customer.name.in_(["Ada", "Grace"]), Customer.born.is_(None))
    yield sa.select(Customer).where(
        sa.or_(Customer.name.ilike("%a%"), sa.not_(Customer.name.startswith("G", autoescape=True)))
    )
    yield sa.select(Customer.name).where(Customer.name.like("100\\%%", escape="\\"))
    yield sa.select(Customer.name).where(Customer.name.regexp_match("^[A-G]", "i"))
    yield sa.select(Customer.shout).where(Customer.shout == "ADA").distinct()
    yield sa.select(Customer.name, Customer.owes)
    yield sa.select(func.count()).select_from(Customer)
    yield sa.select(
        func.count(sa.distinct(i.state)), func.max(i.total), func.avg(i.total).filter(i.state == State.draft)
    )
    yield sa.select(i.customer_id, total).group_by(i.customer_id).having(total > 10).order_by(sa.desc("total"))
    yield sa.select(i.state, i.customer_id, total).group_by(func.rollup(i.state, i.customer_id))
    yield sa.select(i.state, total).group_by(func.grouping_sets(sa.tuple_(i.state), sa.tuple_(i.customer_id)))
    yield sa.select(c.name, newest.c.total).join(newest, sa.true(), isouter=True)
    yield sa.select(tree).order_by(tree.c.depth)
    yield sa.select(Customer.name, sums.c.total).join_from(Customer, sums, Customer.id == sums.c.customer_id)
    yield sa.select(func.row_number().over(**window), func.lag(i.total, 1).over(**window), i.id)
    yield sa.select(
        func.sum(i.total).over(order_by=i.id, rows=(-2, 0)), func.rank().over(order_by=i.total, range_=(None, 0))
    )
    yield sa.select(func.percentile_cont(0.5).within_group(i.total.desc()), func.mode().within_group(i.state))
    yield sa.select(
        sa.case((i.total > 50, "much"), (i.total > 10, "some"), else_="little"), sa.cast(i.total, sa.Integer)
    )
    yield sa.select(sa.extract("year", i.made), func.date_trunc("month", i.made), i.made + datetime.timedelta(days=1))
    yield sa.select(Customer.data["rank"].as_integer(), Customer.data[("tags", 0)].astext).where(
        Customer.data.contains({"rank": 1})
    )
    yield sa.select(Customer).where(Customer.data.has_key("rank"), Customer.data.path_exists('$.tags[*] ? (@ == "a")'))
    yield sa.select(Customer.emails[1], Customer.emails[1:2]).where(Customer.emails.any("1@example.org"))
    yield sa.select(Customer.emails).where(
        Customer.emails.overlap(["2@example.org"]), func.cardinality(Customer.emails) > 0
    )
    yield sa.select(
        func.array_agg(pg.aggregate_order_by(Customer.name, Customer.id.desc())), func.string_agg(Customer.name, ", ")
    )
    yield sa.select(
        func.jsonb_build_object("id", Customer.id),
        func.to_tsvector("english", Customer.name).bool_op("@@")(func.to_tsquery("english", "ada")),
    )
    yield sa.select(sa.exists().where(i.customer_id == Customer.id)).select_from(Customer)
    yield sa.select(Customer).where(~Customer.invoices.any(i.total > 5), Customer.parent.has(name="Ada"))
    yield sa.select(Customer).where(Customer.id.in_(sa.select(i.customer_id).where(i.total > 5)))
    yield sa.select(Customer).where(Customer.id == sa.any_(sa.select(i.customer_id).scalar_subquery()))
    yield sa.union_all(sa.select(Customer.name), sa.select(Tag.name).order_by(Tag.name).limit(1)).order_by("name")
    yield sa.intersect(sa.select(Customer.id), sa.except_(sa.select(i.customer_id), sa.select(Tag.id)))
    yield sa.select(values).where(values.c.a > 1)
    yield sa.select(series, func.unnest(sa.cast(["p", "q"], pg.ARRAY(sa.String))).column_valued("u"))
    yield sa.select(Customer).distinct(Customer.parent_id).order_by(Customer.parent_id, Customer.id)
    yield sa.select(Customer).with_for_update()
    yield sa.select(i).with_for_update(of=i, skip_locked=True, key_share=True)
    yield sa.select(i).join(i.customer).with_for_update(read=True, nowait=True, of=Customer)
    yield sa.select(Customer).where(Customer.id == 1).with_for_update(read=True, key_share=True)
    yield sa.select(sa.tablesample(Customer, func.bernoulli(50), name="sampled", seed=func.pi()).c.name)
    yield sa.select(sa.func.current_setting("search_path"), func.pg_backend_pid(), func.nextval("item_number"))
    yield sa.select(
        sa.text("now() AT TIME ZONE 'UTC'"),
        sa.literal_column("'it''s'"),
        sa.null(),
        sa.true(),
        sa.literal("x").collate("C"),
    )
    yield sa.select(func.pg_advisory_xact_lock(42))
    yield sa.select(Customer).options(
        joinedload(Customer.invoices).selectinload(Invoice.lines), subqueryload(Customer.children)
    )
    yield sa.select(Customer).join(Customer.invoices).options(contains_eager(Customer.invoices)).where(
        i.state == State.draft
    )
    yield sa.select(Customer).options(selectinload(Customer.children), with_loader_criteria(Invoice, Invoice.total > 0))
    yield sa.select(with_polymorphic(Item, "*"))
    yield sa.select(Book).where(Book.pages.between(50, 150))
    yield sa.select(Film).where(Film.minutes.is_distinct_from(None))
    yield sa.select(
        sa.type_coerce(Customer.key, sa.Uuid),
        Customer.name + " & co",
        -Customer.id,
        Customer.id % 2,
        Customer.id.op("<<")(2),
    )
    yield sa.select(i.id).where(sa.tuple_(i.id, i.total) > sa.tuple_(1, 2))


def changes(session, people):
    insert = pg.insert(Tag).values([{"name": "new"}, {"name": "odd"}])
    session.execute(insert.on_conflict_do_nothing(index_elements=["name"]))
    again = pg.insert(Tag).values(name="odd")
    session.execute(
        again.on_conflict_do_update(
            index_elements=[Tag.name], set_={"name": again.excluded.name + "!"}, where=Tag.name != "x"
        ).returning(Tag.id)
    )
    session.execute(sa.insert(Tag), [{"name": f"bulk {n}"} for n in range(50)])
    session.scalars(
        sa.insert(Tag).returning(Tag, sort_by_parameter_order=True), [{"name": f"back {n}"} for n in range(5)]
    ).all()
    session.execute(sa.insert(Tag).from_select(["name"], sa.select(Customer.name + " (tag)")))
    session.execute(
        sa.update(Invoice).where(Invoice.total > 50).values(state=State.sent, note=func.concat(Invoice.note, "!"))
    )
    session.execute(
        sa.update(Invoice)
        .where(Invoice.customer_id == Customer.id, Customer.name == "Ada")
        .values(total=Customer.id)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        sa.update(Customer)
        .values(data=Customer.data.op("||")(sa.cast({"seen": True}, pg.JSONB)))
        .returning(Customer.id)
    )
    session.execute(sa.update(Customer), [{"id": people[0].id, "born": DAY.date()}, {"id": people[1].id, "born": None}])
    session.execute(sa.delete(Tag).where(Tag.name.like("bulk%")).returning(Tag.name))
    session.execute(
        sa.delete(Line)
        .where(Line.invoice_id == Invoice.id, Invoice.state == State.paid)
        .execution_options(synchronize_session=False)
    )
    gone = sa.delete(Tag).where(Tag.name.startswith("back")).returning(Tag.id, Tag.name).cte("gone")
    session.execute(sa.select(func.count()).select_from(gone))
    moved = sa.insert(Tag).values(name="from a cte").returning(Tag.id).cte("moved")
    session.execute(sa.select(Customer.id).where(Customer.id.in_(sa.select(moved.c.id))))
    session.execute(
        sa.select(Customer)
        .join(Invoice)
        .add_cte(sa.update(Tag).values(name=Tag.name).returning(Tag.id).cte("touched"))
        .limit(1)
    )
    people[3].name, people[3].invoices[0].note = "Renamed", "changed"
    session.flush()
    people[4].invoices[0].tags.clear()
    session.delete(people[5])
    session.commit()
    with session.begin_nested() as savepoint:
        session.add(Customer(name="Gone again"))
        session.flush()
        savepoint.rollback()
    session.merge(Customer(id=people[0].id, name="Ada L."))
    session.refresh(people[1], with_for_update={"nowait": True})
    session.execute(sa.text("SET LOCAL statement_timeout = '5s'"))
    session.execute(sa.text("CALL billing.nothing(:n)"), {"n": 1})
    session.commit()


def migrate(connection):
    """What Alembic's operations send."""
    op = Operations(MigrationContext.configure(connection))
    op.create_table(
        "extra", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.String(5), server_default="x")
    )
    op.add_column("extra", sa.Column("b", sa.Integer, server_default=sa.text("floor(random() * 10)"), nullable=False))
    op.add_column("extra", sa.Column("owner_id", sa.Integer))
    op.alter_column("extra", "a", new_column_name="aa", type_=sa.Text, nullable=False, comment="longer")
    op.alter_column("extra", "b", server_default=None, type_=sa.BigInteger, postgresql_using="b::bigint")
    op.create_foreign_key(
        "extra_owner", "extra", "customer", ["owner_id"], ["id"], ondelete="SET NULL", deferrable=True
    )
    op.create_index("extra_aa", "extra", ["aa"], unique=True, postgresql_include=["b"])
    op.create_index(
        "extra_gin", "customer", ["data"], postgresql_using="gin", postgresql_ops={"data": "jsonb_path_ops"}
    )
    op.create_unique_constraint("extra_pair", "extra", ["aa", "b"])
    op.create_check_constraint("extra_small", "extra", "b < 1000")
    op.bulk_insert(
        sa.table("extra", sa.column("aa", sa.Text), sa.column("b", sa.Integer)),
        [{"aa": "1", "b": 1}, {"aa": "2", "b": 2}],
    )
    op.execute("UPDATE extra SET b = b + 1 WHERE aa <> ''")
    op.drop_constraint("extra_pair", "extra")
    op.drop_index("extra_aa", table_name="extra", if_exists=True)
    op.drop_column("extra", "owner_id")
    op.rename_table("extra", "more")
    op.create_table_comment("more", "the rest")
    op.drop_table("more")
    op.execute(sa.schema.CreateSequence(sa.Sequence("spare", increment=5, cycle=True)))
    op.execute("ALTER TYPE state ADD VALUE IF NOT EXISTS 'void'")


def reflect(connection):
    look = sa.inspect(connection)
    for schema in (None, "billing"):
        look.get_table_names(schema), look.get_view_names(schema), look.get_sequence_names(schema)
        look.get_enums(schema), look.get_multi_columns(schema), look.get_multi_indexes(schema)
        look.get_multi_foreign_keys(schema), look.get_multi_unique_constraints(schema)
        look.get_multi_check_constraints(schema), look.get_multi_pk_constraint(schema)
        look.get_multi_table_comment(schema)
    look.has_table("customer"), look.get_schema_names(), look.get_materialized_view_names()
    sa.MetaData().reflect(connection, schema="billing")


def main():
    engine = sa.create_engine("postgresql+psycopg://")
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("billing", if_not_exists=True))
        connection.execute(
            sa.text("CREATE PROCEDURE billing.nothing(n int) LANGUAGE plpgsql AS $$ BEGIN PERFORM n; END $$")
        )
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        people = fill(session)
        for query in queries(session):
            rows = session.execute(query)
            (rows.unique() if getattr(query, "_with_options", ()) else rows).all()
            session.rollback()
        people[2].invoices[0].lines, people[2].children
        changes(session, people)
        for chunk in session.scalars(sa.select(Tag).execution_options(yield_per=2)).partitions():
            len(chunk)
        session.commit()
    with engine.connect().execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True) as connection:
        connection.execute(sa.select(Tag.id))
    with engine.begin() as connection:
        migrate(connection)
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(sa.insert(Tag).values(name="two phases"))
        transaction.prepare()
        transaction.commit()
        reflect(connection)
    Base.metadata.drop_all(engine)


if __name__ == "__main__":
    main()
