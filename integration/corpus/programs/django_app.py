"""A tour of Django's ORM: migrations, models, queries. What it sends is recorded; nothing is checked. PG* variables say
where to."""

import datetime
import os
import sys
import tempfile

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "USER": os.environ["PGUSER"],
            "NAME": os.environ["PGDATABASE"],
        }
    },
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "django.contrib.admin",
        "django.contrib.messages",
        "django.contrib.postgres",
        "shop",
    ],
    MIGRATION_MODULES={"shop": "shop_migrations"},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    SECRET_KEY="not one",
)

# The application is this file: the package that Django wants is made as it runs.
place = tempfile.TemporaryDirectory()
sys.path.insert(0, place.name)
for package in ("shop", "shop_migrations"):
    os.mkdir(os.path.join(place.name, package))
    open(os.path.join(place.name, package, "__init__.py"), "w").close()
django.setup()

from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres import aggregates as pga, fields as pgf, indexes as pgi, search as pgs
from django.contrib.postgres.operations import CryptoExtension, TrigramExtension
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import connection, migrations, models, transaction
from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models import functions as fn

NOON = datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc)


class Publisher(models.Model):
    name = models.CharField(max_length=100, unique=True)
    rating = models.FloatField(null=True, db_index=True)

    class Meta:
        app_label = "shop"


class Author(models.Model):
    name = models.CharField(max_length=100)
    age = models.PositiveSmallIntegerField(null=True)
    mentor = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="students")
    data = models.JSONField(default=dict)
    tags = pgf.ArrayField(models.CharField(max_length=20), default=list)

    class Meta:
        app_label = "shop"
        ordering = ["name"]
        indexes = [
            pgi.GinIndex(fields=["data"], name="author_data"),
            models.Index(fn.Lower("name").desc(), name="author_lower"),
        ]


class Book(models.Model):
    title = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    pages = models.IntegerField(default=100, db_default=100)
    published = models.DateTimeField(default=NOON)
    duration = models.DurationField(default=datetime.timedelta(hours=2))
    key = models.UUIDField(null=True)
    cover = models.BinaryField(default=b"\x00\xff")
    publisher = models.ForeignKey(Publisher, on_delete=models.CASCADE, related_name="books")
    authors = models.ManyToManyField(Author, through="Credit", related_name="books")
    similar = models.ManyToManyField("self", blank=True)
    span = pgf.IntegerRangeField(null=True)
    cents = models.GeneratedField(
        expression=F("price") * 100, output_field=models.DecimalField(max_digits=12, decimal_places=2), db_persist=True
    )

    class Meta:
        app_label = "shop"
        db_table_comment = "books, mostly"
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=0), name="price_positive"),
            models.UniqueConstraint(
                fields=["title", "publisher"], condition=Q(pages__gt=0), include=["price"], name="one_title"
            ),
            models.UniqueConstraint(fn.Upper("title"), "pages", name="upper_title"),
        ]


class Credit(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE)
    author = models.ForeignKey(Author, on_delete=models.PROTECT)
    role = models.CharField(max_length=10, choices=[("w", "writer"), ("e", "editor")], default="w")

    class Meta:
        app_label = "shop"
        unique_together = [("book", "author")]


class Special(Book):
    why = models.TextField(blank=True)
    signer = models.OneToOneField(User, null=True, on_delete=models.SET_NULL)

    class Meta:
        app_label = "shop"


def migrate():
    call_command("makemigrations", "shop", verbosity=0)
    call_command("migrate", verbosity=0)
    call_command("migrate", "auth", "0010", verbosity=0)
    call_command("migrate", "auth", verbosity=0)
    call_command("inspectdb", stdout=open(os.devnull, "w"))
    state = migrations.loader.MigrationLoader(connection).project_state()
    steps = [
        TrigramExtension(),
        CryptoExtension(),
        migrations.AddField("book", "extra", models.CharField(max_length=5, default="x", db_index=True)),
        migrations.AlterField("book", "extra", models.TextField(null=True)),
        migrations.AlterField("publisher", "rating", models.IntegerField(null=True)),
        migrations.RenameField("book", "extra", "more"),
        migrations.AlterField("book", "more", models.IntegerField(default=5, db_comment="a number")),
        migrations.AddIndex("book", models.Index(fields=["more", "-pages"], name="more_pages")),
        migrations.AddIndex("book", pgi.BrinIndex(fields=["published"], name="book_brin", pages_per_range=4)),
        migrations.AddConstraint(
            "book", models.CheckConstraint(condition=Q(pages__lt=F("more") * 1000) | Q(more=None), name="few")
        ),
        migrations.RenameIndex("book", new_name="pages_more", old_name="more_pages"),
        migrations.RemoveConstraint("book", "few"),
        migrations.RemoveIndex("book", "pages_more"),
        migrations.CreateModel(
            "Note",
            [("id", models.AutoField(primary_key=True)), ("on", models.ForeignKey("shop.Book", models.CASCADE))],
            options={"db_table": "Odd Name"},
        ),
        migrations.AlterModelTable("note", "notes"),
        migrations.RunSQL("INSERT INTO notes (on_id) SELECT id FROM shop_book; UPDATE notes SET on_id = on_id"),
        migrations.DeleteModel("Note"),
        migrations.RemoveField("book", "more"),
        migrations.AlterField("publisher", "rating", models.FloatField(null=True, db_index=True)),
    ]
    for step in steps:
        after = state.clone()
        step.state_forwards("shop", after)
        with connection.schema_editor() as editor:
            step.database_forwards("shop", editor, state, after)
        state = after


def fill():
    publishers = Publisher.objects.bulk_create(
        [Publisher(name=n, rating=r) for n, r in (("Ace", 1.5), ("O'Reilly", None), ("100%", 4))]
    )
    authors = [
        Author.objects.create(name=n, age=30 + i, data={"n": i, "deep": {"list": [i]}}, tags=["t", n[:5]])
        for i, n in enumerate(("Ada", "Ünï", "back\\slash", 'q"uote', "-- x; y"))
    ]
    authors[1].mentor = authors[0]
    authors[1].save(update_fields=["mentor"])
    books = []
    for i in range(6):
        book = Book.objects.create(
            title=f"Book {i}", price=i * 3, pages=i * 50, publisher=publishers[i % 3], span=(i, i + 5)
        )
        book.authors.add(authors[i % 5], through_defaults={"role": "e"})
        books.append(book)
    books[0].similar.set(books[1:3])
    books[0].similar.remove(books[1])
    Special.objects.create(
        title="Special",
        price=1,
        publisher=publishers[0],
        why="because",
        signer=User.objects.create_user("ann", "ann@example.org"),
    )
    group = Group.objects.create(name="staff")
    group.permissions.set(Permission.objects.filter(content_type=ContentType.objects.get_for_model(Book)))
    User.objects.get().groups.add(group)
    User.objects.get().has_perm("shop.add_book")
    return publishers, authors, books


def queries():
    b, a = Book.objects, Author.objects
    newest = Book.objects.filter(publisher=OuterRef("pk")).order_by("-published")
    by = {"partition_by": [F("publisher")], "order_by": F("price").desc()}
    yield b.all()
    yield b.filter(title__icontains="book", price__range=(1, 10)).exclude(pages__in=[0, 50])[1:3]
    yield b.filter(Q(title__startswith="B") | ~Q(pages=0) & Q(publisher__name__iexact="ace"))
    yield b.filter(Q(title__endswith="%") ^ Q(title__contains="_"))
    yield b.filter(title__regex=r"^B.*\d$").filter(title__iregex="b")
    yield b.filter(published__year=2024, published__month__gte=2, published__week_day=5, published__date=NOON.date())
    yield b.filter(authors__name="Ada").distinct()
    yield b.filter(authors__students__isnull=False).select_related("publisher")
    yield b.prefetch_related("authors", Prefetch("similar", queryset=Book.objects.only("title"))).defer("cover")
    yield b.values("publisher__name").annotate(n=Count("id"), s=Sum("price"), m=Max("pages")).filter(n__gt=1).order_by(
        "-s"
    )
    yield b.annotate(n=Count("authors", distinct=True, filter=Q(authors__age__gt=31))).filter(n__gte=0)
    yield b.annotate(same=Exists(Book.objects.filter(pages=OuterRef("pages")).exclude(pk=OuterRef("pk")))).filter(
        same=False
    )
    yield Publisher.objects.annotate(
        newest=Subquery(newest.values("title")[:1]), best=FilteredRelation("books", condition=Q(books__price__gt=3))
    ).filter(best__isnull=False)
    yield b.annotate(
        r=Window(fn.RowNumber(), **by),
        p=Window(fn.Lag("price", offset=1), **by),
        t=Window(Sum("price"), order_by="id", frame=models.RowRange(start=-1, end=0)),
    )
    yield b.annotate(r=Window(fn.Rank(), order_by=F("price").desc())).filter(r__lte=2)
    yield b.annotate(
        size=Case(
            When(pages__lt=100, then=Value("thin")),
            When(Q(pages__lt=200), then=fn.Lower("title")),
            default=Value("thick"),
        )
    )
    yield b.annotate(
        x=fn.Coalesce("publisher__rating", 0.0),
        y=fn.Concat("title", Value(" "), "publisher__name"),
        z=fn.Cast("price", models.IntegerField()),
    )
    yield b.annotate(
        m=fn.TruncMonth("published"),
        w=fn.ExtractWeek("published"),
        n=fn.Now() - F("published"),
        h=F("published") + F("duration"),
    )
    yield b.annotate(
        u=fn.Greatest("pages", 10),
        v=fn.Mod("pages", 7),
        s=fn.Substr("title", 2, 3),
        h=fn.SHA256("title"),
        r=fn.Random(),
        p=fn.StrIndex("title", Value("o")),
    )
    yield b.order_by(F("publisher__rating").asc(nulls_last=True), "?").reverse()
    yield b.union(Book.objects.filter(pages=0), all=True).order_by("title")
    yield b.values_list("id").intersection(Special.objects.values_list("id")).difference(Book.objects.none())
    yield b.values_list("title", flat=True).distinct()
    yield b.order_by("publisher", "-price").distinct("publisher")
    yield b.filter(span__contains=3, span__overlap=(1, 9)).filter(span__startswith__gt=0)
    yield b.extra(select={"odd": "pages %% 2"}, where=["price > %s"], params=[1])
    yield b.filter(pk__in=Book.objects.filter(price__gt=F("pages") / 20).values("pk"))
    yield b.dates("published", "month"), b.datetimes("published", "hour")
    yield b.using("default").filter(publisher__in=Publisher.objects.filter(rating__isnull=True))
    yield b.alias(double=F("price") * 2 - 1).filter(double__gt=3)
    yield a.filter(data__n=1, data__deep__list__0=1)
    yield a.filter(data__contains={"n": 2}).filter(data__has_any_keys=["n", "m"]).exclude(data__deep=None)
    yield a.filter(tags__contains=["t"], tags__len__gt=1, tags__0="t").filter(tags__overlap=["Ada"])
    yield a.annotate(k=fn.JSONObject(name=F("name"), old=F("age") + 1), n=models.F("data__n"))
    yield a.annotate(sim=pgs.TrigramSimilarity("name", "ada")).filter(sim__gt=0.1).order_by("-sim")
    yield a.annotate(
        v=pgs.SearchVector("name", config="english"),
        r=pgs.SearchRank("v", pgs.SearchQuery("ada | x", search_type="raw")),
    ).filter(v=pgs.SearchQuery("ada"))
    yield a.filter(mentor__mentor__name=None).select_related("mentor__mentor")
    yield a.raw("SELECT *, age + %s AS older FROM shop_author WHERE name <> %s", [1, "x"])
    yield a.filter(name__trigram_similar="Ada")
    yield Special.objects.select_related("book_ptr", "signer").filter(signer__groups__name="staff")


def aggregates():
    Book.objects.aggregate(Avg("price"), Min("pages"), spread=Max("price") - Min("price"), n=Count("*"))
    Book.objects.aggregate(
        a=pga.ArrayAgg("title", distinct=True, order_by="title"),
        s=pga.StringAgg("title", ", ", order_by="-title"),
        j=pga.JSONBAgg("pages"),
        b=pga.BoolOr(Q(pages__gt=1)),
        c=pga.Corr("pages", "price"),
    )
    Book.objects.annotate(n=Count("authors")).aggregate(Avg("n"))
    Book.objects.filter(pages=0).exists(), Book.objects.count(), Book.objects.distinct().values("publisher").count()
    Book.objects.first(), Book.objects.last(), Book.objects.latest("published"), Book.objects.in_bulk([1, 2])
    Book.objects.contains(Book.objects.first())
    Book.objects.filter(pages__gt=1).explain(analyze=True, format="json")
    Book.objects.explain()
    list(Book.objects.iterator(chunk_size=2))


def changes(publishers, authors, books):
    Publisher.objects.get_or_create(name="Ace", defaults={"rating": 2})
    Publisher.objects.get_or_create(name="Zed", defaults={"rating": 2})
    Publisher.objects.update_or_create(name="Zed", defaults={"rating": F("rating") + 1})
    Publisher.objects.update_or_create(name="Yes", defaults={"rating": 1}, create_defaults={"rating": 9})
    Publisher.objects.bulk_create([Publisher(name="Zed"), Publisher(name="Bulk")], ignore_conflicts=True)
    Publisher.objects.bulk_create(
        [Publisher(name="Zed", rating=7)], update_conflicts=True, update_fields=["rating"], unique_fields=["name"]
    )
    for i, author in enumerate(authors):
        author.age = 40 + i
    Author.objects.bulk_update(authors, ["age", "name"], batch_size=3)
    Book.objects.filter(pages__gt=10).update(price=F("price") + 1, title=fn.Concat("title", Value("!")))
    Book.objects.filter(publisher__name="Ace").update(
        pages=Subquery(Book.objects.filter(pk=OuterRef("pk")).values("pages")[:1])
    )
    Special.objects.update(why="bulk", pages=3)
    Author.objects.update(data=Value({"all": 1}, models.JSONField()))
    with transaction.atomic():
        list(Book.objects.select_for_update().filter(pages=0))
        list(Book.objects.select_related("publisher").select_for_update(of=("self",), skip_locked=True))
        list(Book.objects.select_for_update(no_key=True, nowait=True)[:1])
        try:
            with transaction.atomic():
                Publisher.objects.create(name="Ace")
        except django.db.IntegrityError:
            pass
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SELECT pg_advisory_xact_lock(%s), nextval(pg_get_serial_sequence('shop_book', 'id'))", [1])
            cursor.executemany("INSERT INTO shop_publisher (name) VALUES (%s)", [["m1"], ["m2"]])
            cursor.callproc("lower", ["X"])
    books[1].refresh_from_db()
    books[1].authors.clear()
    books[2].delete()
    Credit.objects.filter(role="w").delete()
    Publisher.objects.filter(name__startswith="m").delete()
    Publisher.objects.filter(name="Ace").delete()
    store = SessionStore()
    store["a"] = 1
    store.save()
    SessionStore(store.session_key).load()
    store.cycle_key(), store.clear_expired(), store.delete()
    call_command("flush", interactive=False, verbosity=0)
    call_command("sqlsequencereset", "shop", stdout=open(os.devnull, "w"))
    call_command("migrate", "shop", "zero", verbosity=0)


def main():
    migrate()
    made = fill()
    for query in queries():
        for one in query if isinstance(query, tuple) else (query,):
            list(one)
    aggregates()
    changes(*made)


main()
